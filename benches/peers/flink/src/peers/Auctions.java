package peers;

import java.nio.charset.StandardCharsets;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.IntType;
import org.apache.flink.table.types.logical.LocalZonedTimestampType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.VarCharType;

/**
 * Nexmark's events as rows of one table, from the file that the bench `workloads` makes: the kind
 * (0 a person, 1 an auction, 2 a bid), and a row of that kind.
 */
final class Auctions implements Indexes.Emit<RowData> {
    private static final LogicalType LONG = new BigIntType(false);
    private static final LogicalType TEXT = new VarCharType(false, VarCharType.MAX_LENGTH);
    private static final LogicalType TIME = new LocalZonedTimestampType(false, 3);

    static final InternalTypeInfo<RowData> ROWS = InternalTypeInfo.of(RowType.of(
            new LogicalType[] {
                new IntType(false),
                row(new String[] {"id", "name", "city", "state"}, LONG, TEXT, TEXT, TEXT),
                row(new String[] {"id", "seller", "category", "begins", "expires"},
                        LONG, LONG, LONG, TIME, TIME),
                row(new String[] {"auction", "bidder", "price", "channel"},
                        LONG, LONG, LONG, LONG),
            },
            new String[] {"kind", "person", "auction", "bid"}));

    /** Where the next event begins. */
    private int at;

    private static RowType row(String[] names, LogicalType... types) {
        return RowType.of(true, types, names);
    }

    /** One reader takes all events, in their order. Rows are new: state may keep them. */
    @Override
    public void event(long index, ReaderOutput<RowData> output) {
        int kind = Input.bytes.get(at++);
        RowData row;
        long millis;
        if (kind == 0) {
            long id = number();
            millis = time();
            row = GenericRowData.of(id, text(), text(), text());
        } else if (kind == 1) {
            long id = number();
            long seller = number();
            long category = number();
            // The first bid and the reserve.
            at += 8;
            millis = time();
            row = GenericRowData.of(id, seller, category, TimestampData.fromEpochMillis(millis),
                    TimestampData.fromEpochMillis(time()));
        } else {
            row = GenericRowData.of(number(), number(), number(), number());
            millis = time();
        }
        GenericRowData event = new GenericRowData(4);
        event.setField(0, kind);
        event.setField(kind + 1, row);
        output.collect(event, millis);
    }

    private long number() {
        at += 4;
        return Integer.toUnsignedLong(Input.bytes.getInt(at - 4));
    }

    private long time() {
        at += 8;
        return Input.bytes.getLong(at - 8);
    }

    private StringData text() {
        int length = Byte.toUnsignedInt(Input.bytes.get(at));
        String text = new String(Input.bytes.array(), at + 1, length, StandardCharsets.UTF_8);
        at += 1 + length;
        return StringData.fromString(text);
    }
}
