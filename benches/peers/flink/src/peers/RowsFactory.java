package peers;

import java.io.Serializable;
import java.util.Set;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.sink.SinkV2Provider;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DynamicTableSinkFactory;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.types.RowKind;

/**
 * A table that only adds its rows up, as the engine has them inside: no row is converted. A row that
 * is taken back is subtracted, so what is left is the check of the table as it is at the end.
 */
public final class RowsFactory implements DynamicTableSinkFactory {
    static final String NAME = "checking";

    @Override
    public String factoryIdentifier() {
        return NAME;
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of();
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of();
    }

    @Override
    public DynamicTableSink createDynamicTableSink(Context context) {
        LogicalType[] types = context.getPhysicalRowDataType().getLogicalType().getChildren()
                .toArray(LogicalType[]::new);
        Field[] fields = new Field[types.length];
        for (int field = 0; field < types.length; field++) {
            fields[field] = field(types[field], field);
        }
        return new Rows(fields);
    }

    /** A field as a number. */
    private interface Field extends Serializable {
        long of(RowData row);
    }

    private static Field field(LogicalType type, int field) {
        return switch (type.getTypeRoot()) {
            case BIGINT -> row -> row.getLong(field);
            case CHAR, VARCHAR -> row -> Check.number(row.getString(field).toBytes());
            case TIMESTAMP_WITHOUT_TIME_ZONE, TIMESTAMP_WITH_LOCAL_TIME_ZONE ->
                    row -> row.getTimestamp(field, 3).getMillisecond();
            default -> throw new IllegalArgumentException("a result of type " + type);
        };
    }

    private record Rows(Field[] fields) implements DynamicTableSink {
        @Override
        public ChangelogMode getChangelogMode(ChangelogMode requested) {
            return ChangelogMode.all();
        }

        @Override
        public SinkRuntimeProvider getSinkRuntimeProvider(Context context) {
            Field[] fields = this.fields;
            return SinkV2Provider.of(new Checking<RowData>((check, row) -> {
                long mixed = fields.length;
                for (Field field : fields) {
                    mixed = Check.mix(mixed, field.of(row));
                }
                RowKind kind = row.getRowKind();
                if (kind == RowKind.INSERT || kind == RowKind.UPDATE_AFTER) {
                    check.add(mixed);
                } else {
                    check.takeBack(mixed);
                }
            }));
        }

        @Override
        public DynamicTableSink copy() {
            return new Rows(fields);
        }

        @Override
        public String asSummaryString() {
            return NAME;
        }
    }
}
