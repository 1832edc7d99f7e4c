package peers;

import java.util.Map;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.TableDescriptor;
import org.apache.flink.table.api.bridge.java.StreamStatementSet;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.data.RowData;

/** Nexmark in SQL. A row has the fields that the same query has in the bench `workloads`. */
final class Queries {
    /** Windows of a table, with their counts by auction. */
    private static final String COUNTS =
            "WITH counts AS (SELECT auction, window_start, window_end, COUNT(*) AS bids"
            + " FROM TABLE(HOP(TABLE bid, DESCRIPTOR(stamp), INTERVAL '2' SECOND, INTERVAL '10' SECOND))"
            + " GROUP BY auction, window_start, window_end) ";
    private static final String BIDS_BY_TEN_SECONDS =
            " TABLE(TUMBLE(TABLE bid, DESCRIPTOR(stamp), INTERVAL '10' SECOND)) ";
    private static final String BIDS_BY_DAY =
            " TABLE(TUMBLE(TABLE bid, DESCRIPTOR(stamp), INTERVAL '1' DAY)) ";
    private static final String RANKS =
            "%s FILTER (WHERE price < 10000),"
            + " %s FILTER (WHERE price >= 10000 AND price < 1000000),"
            + " %s FILTER (WHERE price >= 1000000)";
    /** Each auction's bids while it was open. */
    private static final String OFFERS =
            " FROM auction A JOIN bid B ON A.id = B.auction"
            + " WHERE B.stamp >= A.begins AND B.stamp <= A.expires ";

    private static final Map<String, String> SQL = Map.ofEntries(
            Map.entry("q0", "SELECT auction, bidder, price, stamp FROM bid"),
            Map.entry("q1", "SELECT auction, bidder, price * 908 / 1000, stamp FROM bid"),
            Map.entry("q2", "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"),
            Map.entry("q3", "SELECT P.name, P.city, P.state, A.id"
                    + " FROM auction A JOIN person P ON A.seller = P.id"
                    + " WHERE A.category = 10 AND P.state IN ('or', 'id', 'ca')"),
            Map.entry("q4", "SELECT category, COUNT(*), SUM(best) / COUNT(*)"
                    + " FROM (SELECT A.id, A.category, MAX(B.price) AS best" + OFFERS
                    + " GROUP BY A.id, A.category) GROUP BY category"),
            Map.entry("q5", COUNTS + "SELECT C.window_start, C.auction, C.bids FROM counts C"
                    + " JOIN (SELECT window_start, window_end, MAX(bids) AS most FROM counts"
                    + " GROUP BY window_start, window_end) M"
                    + " ON C.window_start = M.window_start AND C.window_end = M.window_end"
                    + " AND C.bids = M.most"),
            Map.entry("q7", "SELECT B.window_start, B.auction, B.bidder, B.price FROM"
                    + BIDS_BY_TEN_SECONDS + "B"
                    + " JOIN (SELECT window_start, window_end, MAX(price) AS most FROM"
                    + BIDS_BY_TEN_SECONDS + " GROUP BY window_start, window_end) M"
                    + " ON B.window_start = M.window_start AND B.window_end = M.window_end"
                    + " AND B.price = M.most"),
            Map.entry("q8", "SELECT P.id, P.name, P.window_start FROM"
                    + " (SELECT id, name, window_start, window_end"
                    + " FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(stamp), INTERVAL '10' SECOND))"
                    + " GROUP BY id, name, window_start, window_end) P"
                    + " JOIN (SELECT seller, window_start, window_end"
                    + " FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(stamp), INTERVAL '10' SECOND))"
                    + " GROUP BY seller, window_start, window_end) A ON P.id = A.seller"
                    + " AND P.window_start = A.window_start AND P.window_end = A.window_end"),
            Map.entry("q9", "SELECT id, seller, category, bidder, price, stamp FROM"
                    + " (SELECT A.id, A.seller, A.category, B.bidder, B.price, B.stamp, ROW_NUMBER()"
                    + " OVER (PARTITION BY A.id ORDER BY B.price DESC, B.stamp ASC) AS place" + OFFERS
                    + ") WHERE place <= 1"),
            // Windows that touch are one session here, and two elsewhere.
            Map.entry("q11", "SELECT bidder, window_start, COUNT(*) FROM TABLE(SESSION("
                    + "TABLE bid PARTITION BY bidder, DESCRIPTOR(stamp), INTERVAL '9.999' SECOND))"
                    + " GROUP BY bidder, window_start, window_end"),
            Map.entry("q12", "SELECT bidder, window_start, COUNT(*) FROM" + BIDS_BY_TEN_SECONDS
                    + "GROUP BY bidder, window_start, window_end"),
            Map.entry("q16", "SELECT channel" + ranked("COUNT(*)") + ranked("COUNT(DISTINCT bidder)")
                    + ranked("COUNT(DISTINCT auction)") + " FROM" + BIDS_BY_DAY
                    + "GROUP BY channel, window_start, window_end"),
            Map.entry("q17", "SELECT auction, " + RANKS.formatted("COUNT(*)", "COUNT(*)", "COUNT(*)")
                    + ", MIN(price), MAX(price), SUM(price) FROM" + BIDS_BY_DAY
                    + "GROUP BY auction, window_start, window_end"),
            Map.entry("q18", "SELECT bidder * 4294967296 + auction, stamp, price FROM"
                    + " (SELECT *, ROW_NUMBER()"
                    + " OVER (PARTITION BY bidder, auction ORDER BY stamp DESC) AS place FROM bid)"
                    + " WHERE place <= 1"),
            Map.entry("q19", "SELECT auction, price FROM (SELECT *, ROW_NUMBER()"
                    + " OVER (PARTITION BY auction ORDER BY price DESC) AS place FROM bid)"
                    + " WHERE place <= 10"),
            Map.entry("q20", "SELECT A.id, A.seller, B.bidder, B.price, B.stamp"
                    + " FROM bid B JOIN auction A ON B.auction = A.id WHERE A.category = 10"));

    private Queries() {}

    /** Something of all bids, and of those of each rank of prices. */
    private static String ranked(String what) {
        return ", " + what + ", " + RANKS.formatted(what, what, what);
    }

    static boolean has(String name) {
        return SQL.containsKey(name);
    }

    /** Rows are gathered before an aggregate. */
    private static void batches(StreamTableEnvironment tables) {
        tables.getConfig().set("table.exec.mini-batch.enabled", "true");
        tables.getConfig().set("table.exec.mini-batch.allow-latency", "2s");
        tables.getConfig().set("table.exec.mini-batch.size", "50000");
    }

    static void add(StreamExecutionEnvironment flink, DataStream<RowData> events, String name) {
        StreamTableEnvironment tables = StreamTableEnvironment.create(flink);
        tables.getConfig().set("table.local-time-zone", "UTC");
        if (name.equals("q9")) {
            batches(tables);
        }
        tables.createTemporaryView("events", events, Schema.newBuilder()
                .columnByMetadata("stamp", DataTypes.TIMESTAMP_LTZ(3), "rowtime")
                .watermark("stamp", "SOURCE_WATERMARK()")
                .build());
        tables.executeSql("CREATE TEMPORARY VIEW person AS SELECT person.id AS id,"
                + " person.name AS name, person.city AS city, person.state AS state, stamp"
                + " FROM events WHERE kind = 0");
        tables.executeSql("CREATE TEMPORARY VIEW auction AS SELECT auction.id AS id,"
                + " auction.seller AS seller, auction.category AS category,"
                + " auction.begins AS begins, auction.expires AS expires, stamp"
                + " FROM events WHERE kind = 1");
        tables.executeSql("CREATE TEMPORARY VIEW bid AS SELECT bid.auction AS auction,"
                + " bid.bidder AS bidder, bid.price AS price, bid.channel AS channel, stamp"
                + " FROM events WHERE kind = 2");
        StreamStatementSet statements = tables.createStatementSet();
        statements.add(tables.sqlQuery(SQL.get(name)).insertInto(
                TableDescriptor.forConnector(RowsFactory.NAME).build()));
        statements.attachAsDataStream();
    }
}
