package peers;

import java.util.Map;
import java.util.Set;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.connector.catalog.SupportsWrite;
import org.apache.spark.sql.connector.catalog.Table;
import org.apache.spark.sql.connector.catalog.TableCapability;
import org.apache.spark.sql.connector.catalog.TableProvider;
import org.apache.spark.sql.connector.expressions.Transform;
import org.apache.spark.sql.connector.write.DataWriter;
import org.apache.spark.sql.connector.write.LogicalWriteInfo;
import org.apache.spark.sql.connector.write.PhysicalWriteInfo;
import org.apache.spark.sql.connector.write.Write;
import org.apache.spark.sql.connector.write.WriteBuilder;
import org.apache.spark.sql.connector.write.WriterCommitMessage;
import org.apache.spark.sql.connector.write.streaming.StreamingDataWriterFactory;
import org.apache.spark.sql.connector.write.streaming.StreamingWrite;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/** A streaming sink that adds results to the check, in the task that makes them. */
public final class Checking implements TableProvider {
    private static final StructType SCHEMA = new StructType()
            .add("key", DataTypes.LongType)
            .add("start", DataTypes.TimestampType)
            .add("count", DataTypes.LongType)
            .add("sum", DataTypes.LongType);

    @Override
    public StructType inferSchema(CaseInsensitiveStringMap options) {
        return SCHEMA;
    }

    @Override
    public Table getTable(StructType schema, Transform[] parts, Map<String, String> options) {
        return new CheckTable();
    }

    private record Done() implements WriterCommitMessage {}

    private static final class CheckTable implements SupportsWrite {
        @Override
        public String name() {
            return "check";
        }

        @Override
        public StructType schema() {
            return SCHEMA;
        }

        @Override
        public Set<TableCapability> capabilities() {
            return Set.of(TableCapability.STREAMING_WRITE);
        }

        @Override
        public WriteBuilder newWriteBuilder(LogicalWriteInfo info) {
            return new WriteBuilder() {
                @Override
                public Write build() {
                    return new CheckWrite();
                }
            };
        }
    }

    private static final class CheckWrite implements Write, StreamingWrite {
        @Override
        public StreamingWrite toStreaming() {
            return this;
        }

        @Override
        public boolean useCommitCoordinator() {
            return false;
        }

        @Override
        public StreamingDataWriterFactory createStreamingWriterFactory(PhysicalWriteInfo info) {
            return new Writers();
        }

        @Override
        public void commit(long batch, WriterCommitMessage[] messages) {}

        @Override
        public void abort(long batch, WriterCommitMessage[] messages) {}
    }

    private static final class Writers implements StreamingDataWriterFactory {
        @Override
        public DataWriter<InternalRow> createWriter(int partition, long task, long batch) {
            return new Adding();
        }
    }

    /** No task is tried again, so each hands over what it has. */
    private static final class Adding implements DataWriter<InternalRow> {
        private final Check check = new Check();

        @Override
        public void write(InternalRow row) {
            check.add(row.getLong(0), row.getLong(1), row.getLong(2), row.getLong(3));
        }

        @Override
        public WriterCommitMessage commit() {
            check.handOver();
            return new Done();
        }

        @Override
        public void abort() {}

        @Override
        public void close() {}
    }
}
