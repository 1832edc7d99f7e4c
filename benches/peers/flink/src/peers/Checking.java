package peers;

import java.io.Serializable;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;

/** Adds results to the check, in the task that makes them. */
final class Checking<T> implements Sink<T> {
    interface Add<T> extends Serializable {
        void result(Check check, T result);
    }

    private final Add<T> add;

    Checking(Add<T> add) {
        this.add = add;
    }

    @Override
    public SinkWriter<T> createWriter(WriterInitContext context) {
        Check check = new Check();
        return new SinkWriter<>() {
            @Override
            public void write(T result, Context context) {
                add.result(check, result);
            }

            @Override
            public void flush(boolean last) {
                if (last) {
                    check.handOver();
                }
            }

            @Override
            public void close() {}
        };
    }
}
