package peers;

import java.util.Map;
import java.util.Set;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.connector.catalog.SupportsRead;
import org.apache.spark.sql.connector.catalog.Table;
import org.apache.spark.sql.connector.catalog.TableCapability;
import org.apache.spark.sql.connector.catalog.TableProvider;
import org.apache.spark.sql.connector.expressions.Transform;
import org.apache.spark.sql.connector.read.InputPartition;
import org.apache.spark.sql.connector.read.PartitionReader;
import org.apache.spark.sql.connector.read.PartitionReaderFactory;
import org.apache.spark.sql.connector.read.Scan;
import org.apache.spark.sql.connector.read.ScanBuilder;
import org.apache.spark.sql.connector.read.streaming.MicroBatchStream;
import org.apache.spark.sql.connector.read.streaming.Offset;
import org.apache.spark.sql.connector.read.streaming.ReadLimit;
import org.apache.spark.sql.connector.read.streaming.SupportsTriggerAvailableNow;
import org.apache.spark.sql.execution.vectorized.OnHeapColumnVector;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;
import org.apache.spark.sql.vectorized.ColumnarBatch;

/**
 * A streaming source that generates events by columns, as the engine likes its input best, and
 * hands out so many to a micro-batch. Behind the last event comes one of the far future, so that
 * the watermark closes every window: the engine does not close them at the end of its input.
 */
public final class Events implements TableProvider {
    private static final int ROWS = 4_096;
    private static final long FAR = 1_000_000_000_000_000L;
    private static final StructType SCHEMA = new StructType()
            .add("key", DataTypes.LongType, false)
            .add("value", DataTypes.LongType, false)
            .add("time", DataTypes.TimestampType, false);

    @Override
    public StructType inferSchema(CaseInsensitiveStringMap options) {
        return SCHEMA;
    }

    @Override
    public Table getTable(StructType schema, Transform[] parts, Map<String, String> options) {
        long events = Long.parseLong(options.get("events"));
        long batch = Long.parseLong(options.get("batch"));
        int workers = Integer.parseInt(options.get("workers"));
        return new EventTable(events, batch, workers);
    }

    private record EventTable(long events, long batch, int workers) implements SupportsRead {
        @Override
        public String name() {
            return "events";
        }

        @Override
        public StructType schema() {
            return SCHEMA;
        }

        @Override
        public Set<TableCapability> capabilities() {
            return Set.of(TableCapability.MICRO_BATCH_READ);
        }

        @Override
        public ScanBuilder newScanBuilder(CaseInsensitiveStringMap options) {
            return () -> new EventScan(events, batch, workers);
        }
    }

    private record EventScan(long events, long batch, int workers) implements Scan {
        @Override
        public StructType readSchema() {
            return SCHEMA;
        }

        @Override
        public MicroBatchStream toMicroBatchStream(String checkpoint) {
            return new Batches(events, batch, workers);
        }
    }

    private static final class Index extends Offset {
        private final long next;

        Index(long next) {
            this.next = next;
        }

        @Override
        public String json() {
            return Long.toString(next);
        }
    }

    private record Range(long from, long to, long events) implements InputPartition {}

    private record Batches(long events, long batch, int workers)
            implements MicroBatchStream, SupportsTriggerAvailableNow {
        @Override
        public void prepareForTriggerAvailableNow() {}

        @Override
        public ReadLimit getDefaultReadLimit() {
            return ReadLimit.maxRows(batch);
        }

        @Override
        public Offset latestOffset(Offset start, ReadLimit limit) {
            return new Index(Math.min(((Index) start).next + batch, events + 1));
        }

        @Override
        public Offset latestOffset() {
            throw new UnsupportedOperationException();
        }

        @Override
        public Offset initialOffset() {
            return new Index(0);
        }

        @Override
        public Offset deserializeOffset(String json) {
            return new Index(Long.parseLong(json));
        }

        @Override
        public InputPartition[] planInputPartitions(Offset start, Offset end) {
            long from = ((Index) start).next;
            long count = ((Index) end).next - from;
            InputPartition[] ranges = new InputPartition[workers];
            for (int worker = 0; worker < workers; worker++) {
                ranges[worker] = new Range(from + count * worker / workers,
                        from + count * (worker + 1) / workers, events);
            }
            return ranges;
        }

        @Override
        public PartitionReaderFactory createReaderFactory() {
            return new Readers();
        }

        @Override
        public void commit(Offset end) {}

        @Override
        public void stop() {}
    }

    private static final class Readers implements PartitionReaderFactory {
        @Override
        public PartitionReader<InternalRow> createReader(InputPartition partition) {
            throw new UnsupportedOperationException();
        }

        @Override
        public boolean supportColumnarReads(InputPartition partition) {
            return true;
        }

        @Override
        public PartitionReader<ColumnarBatch> createColumnarReader(InputPartition partition) {
            return new Columns((Range) partition);
        }
    }

    private static final class Columns implements PartitionReader<ColumnarBatch> {
        private final Range range;
        private final OnHeapColumnVector[] columns =
                OnHeapColumnVector.allocateColumns(ROWS, SCHEMA);
        private final ColumnarBatch batch = new ColumnarBatch(columns.clone());
        private long next;

        Columns(Range range) {
            this.range = range;
            next = range.from;
            Check.start();
        }

        @Override
        public boolean next() {
            int rows = (int) Math.min(ROWS, range.to - next);
            for (int row = 0; row < rows; row++) {
                long index = next + row;
                long random = Synthetic.splitmix64(index);
                columns[0].putLong(row, Synthetic.Tumbling.key(random));
                columns[1].putLong(row, Synthetic.Tumbling.value(random));
                columns[2].putLong(row, index < range.events ? index : FAR);
            }
            batch.setNumRows(rows);
            next += rows;
            return rows > 0;
        }

        @Override
        public ColumnarBatch get() {
            return batch;
        }

        @Override
        public void close() {
            batch.close();
        }
    }
}
