package peers;

import java.io.Serializable;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SourceSplit;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/**
 * Generates events in the task itself, many to a call of the runtime: the cheapest source that
 * the interface allows. No splits are handed out: of n readers each makes every nth event.
 */
final class Indexes<T> implements Source<T, Indexes.Nothing, Integer> {
    /** Makes the event of an index and emits it with its time. */
    interface Emit<T> extends Serializable {
        void event(long index, ReaderOutput<T> output);
    }

    static final class Nothing implements SourceSplit {
        @Override
        public String splitId() {
            return "0";
        }
    }

    private static final int AT_ONCE = 512;
    private final long events;
    private final Emit<T> emit;

    Indexes(long events, Emit<T> emit) {
        this.events = events;
        this.emit = emit;
    }

    @Override
    public Boundedness getBoundedness() {
        return Boundedness.BOUNDED;
    }

    @Override
    public SourceReader<T, Nothing> createReader(SourceReaderContext context) {
        return new Reader<>(
                events, emit, context.getIndexOfSubtask(), context.currentParallelism());
    }

    private static final class Reader<T> implements SourceReader<T, Nothing> {
        private final long events;
        private final Emit<T> emit;
        private final int step;
        private long next;
        private boolean started;

        Reader(long events, Emit<T> emit, int first, int step) {
            this.events = events;
            this.emit = emit;
            this.step = step;
            next = first;
        }

        @Override
        public InputStatus pollNext(ReaderOutput<T> output) {
            if (!started) {
                started = true;
                Check.start();
            }
            long end = Math.min(next + AT_ONCE * step, events);
            for (; next < end; next += step) {
                emit.event(next, output);
            }
            return next < events ? InputStatus.MORE_AVAILABLE : InputStatus.END_OF_INPUT;
        }

        @Override
        public void start() {}

        @Override
        public List<Nothing> snapshotState(long id) {
            return List.of();
        }

        @Override
        public CompletableFuture<Void> isAvailable() {
            return CompletableFuture.completedFuture(null);
        }

        @Override
        public void addSplits(List<Nothing> splits) {}

        @Override
        public void notifyNoMoreSplits() {}

        @Override
        public void close() {}
    }

    @Override
    public SplitEnumerator<Nothing, Integer> createEnumerator(
            SplitEnumeratorContext<Nothing> context) {
        return new SplitEnumerator<>() {
            @Override
            public void start() {}

            @Override
            public void handleSplitRequest(int task, String host) {}

            @Override
            public void addSplitsBack(List<Nothing> splits, int task) {}

            @Override
            public void addReader(int task) {}

            @Override
            public Integer snapshotState(long id) {
                return 0;
            }

            @Override
            public void close() {}
        };
    }

    @Override
    public SplitEnumerator<Nothing, Integer> restoreEnumerator(
            SplitEnumeratorContext<Nothing> context, Integer state) {
        return createEnumerator(context);
    }

    @Override
    public SimpleVersionedSerializer<Nothing> getSplitSerializer() {
        return new Empty<>(new Nothing());
    }

    @Override
    public SimpleVersionedSerializer<Integer> getEnumeratorCheckpointSerializer() {
        return new Empty<>(0);
    }

    private record Empty<V>(V value) implements SimpleVersionedSerializer<V> {
        @Override
        public int getVersion() {
            return 1;
        }

        @Override
        public byte[] serialize(V value) {
            return new byte[0];
        }

        @Override
        public V deserialize(int version, byte[] bytes) {
            return value;
        }
    }
}
