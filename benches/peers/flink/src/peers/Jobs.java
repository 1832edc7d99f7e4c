package peers;

import java.io.IOException;
import java.time.Duration;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.functions.KeySelector;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple4;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.ProcessFunction;
import org.apache.flink.streaming.api.functions.windowing.WindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.EventTimeSessionWindows;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.WindowAssigner;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.data.RowData;
import org.apache.flink.types.Row;
import org.apache.flink.util.Collector;

/** The jobs, as one writes them with the DataStream API or in SQL. */
final class Jobs {
    private static final Duration BOUND = Duration.ofMillis(100);
    /** One key in so many is compared. */
    private static final long SAMPLED = 64;
    private static final TypeInformation<long[]> LONGS =
            PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO;
    private static final TypeInformation<Tuple4<Long, Long, Long, Long>> RESULT =
            Types.TUPLE(Types.LONG, Types.LONG, Types.LONG, Types.LONG);

    private final StreamExecutionEnvironment flink;
    private final long events;
    /** Not to send events to another task by their keys, as one may with one task in all. */
    private final boolean chained;

    Jobs(StreamExecutionEnvironment flink, long events, boolean chained) {
        this.flink = flink;
        this.events = events;
        this.chained = chained;
    }

    void add(String job) {
        switch (job) {
            case "tumbling" -> tumbling();
            case "hopping" -> counted(hopping(), SlidingEventTimeWindows.of(
                    Duration.ofSeconds(60), Duration.ofSeconds(1)));
            // Windows that touch are one session here, and two elsewhere. Times are whole ms, so
            // "less than 2 s apart" is "1999 ms apart or less".
            case "sessions" -> counted(sessions(), EventTimeSessionWindows.withGap(
                    Duration.ofMillis(1_999)));
            case "sql" -> sql();
            case "running" -> running();
            default -> {
                if (!Queries.has(job)) {
                    throw new IllegalArgumentException("no such job: " + job);
                }
                Queries.add(flink, auctions(), job);
            }
        }
    }

    private <T> DataStream<T> source(Indexes.Emit<T> emit, TypeInformation<T> type) {
        WatermarkStrategy<T> times = WatermarkStrategy.forBoundedOutOfOrderness(BOUND);
        return flink.fromSource(new Indexes<>(events, emit), times, "events", type);
    }

    private <T> KeyedStream<T, Long> keyed(DataStream<T> stream, KeySelector<T, Long> key) {
        return chained
                ? DataStreamUtils.reinterpretAsKeyedStream(stream, key, Types.LONG)
                : stream.keyBy(key, Types.LONG);
    }

    private DataStream<Tuple2<Long, Long>> pairs() {
        return source(new Pairs(), Types.TUPLE(Types.LONG, Types.LONG));
    }

    private DataStream<Long> hopping() {
        return source((index, output) -> output.collect(
                Synthetic.Hopping.key(index), Synthetic.Hopping.millis(index)), Types.LONG);
    }

    private DataStream<Long> sessions() {
        return source((index, output) -> {
            long random = Synthetic.splitmix64(index);
            output.collect(
                    Synthetic.Sessions.key(random), Synthetic.Sessions.millis(index, random));
        }, Types.LONG).process(new InTime()).returns(Types.LONG);
    }

    private DataStream<RowData> auctions() {
        WatermarkStrategy<RowData> times =
                WatermarkStrategy.forBoundedOutOfOrderness(Duration.ofSeconds(4));
        return flink.fromSource(
                new Indexes<>(events, new Auctions()), times, "events", Auctions.ROWS);
    }

    private void tumbling() {
        keyed(pairs(), event -> event.f0)
                .window(TumblingEventTimeWindows.of(Duration.ofSeconds(1)))
                .aggregate(new CountAndSum(), new Named(), LONGS, RESULT)
                .sinkTo(new Checking<>(
                        (check, r) -> check.add(r.f0, r.f1 * 1_000, r.f2, r.f3)));
    }

    private void counted(DataStream<Long> keys, WindowAssigner<Object, TimeWindow> windows) {
        keyed(keys, key -> key)
                .window(windows)
                .aggregate(new Count(), new Named(), LONGS, RESULT)
                .sinkTo(new Checking<>(
                        (check, r) -> check.add(r.f0, r.f1 * 1_000, r.f2, r.f3)));
    }

    private DataStream<Long> drawn() {
        return source((index, output) -> output.collect(
                Integer.toUnsignedLong(Input.bytes.getInt((int) index * 4)),
                Synthetic.Tumbling.millis(index)), Types.LONG);
    }

    /** Every event tells the count of its key, and takes back the one before. */
    private void running() {
        keyed(drawn(), key -> key)
                .process(new Running())
                .returns(Types.TUPLE(Types.LONG, Types.LONG))
                .filter(told -> told.f0 % SAMPLED == 0)
                .sinkTo(new Checking<>((check, told) -> {
                    long mixed = Synthetic.splitmix64(told.f0);
                    check.add(mixed * told.f1);
                    if (told.f1 > 1) {
                        check.takeBack(mixed * (told.f1 - 1));
                    }
                }));
    }

    private void sql() {
        StreamTableEnvironment tables = StreamTableEnvironment.create(flink);
        tables.getConfig().set("table.local-time-zone", "UTC");
        tables.createTemporaryView("events", pairs(), Schema.newBuilder()
                .column("f0", "BIGINT NOT NULL")
                .column("f1", "BIGINT NOT NULL")
                .columnByMetadata("event_time", DataTypes.TIMESTAMP_LTZ(3), "rowtime")
                .watermark("event_time", "SOURCE_WATERMARK()")
                .build());
        tables.toDataStream(tables.sqlQuery(
                "SELECT f0, window_start, COUNT(*), SUM(f1)"
                + " FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(event_time), INTERVAL '1' SECOND))"
                + " GROUP BY f0, window_start, window_end"))
                .sinkTo(new Checking<>(Jobs::add));
    }

    private static void add(Check check, Row row) {
        java.time.LocalDateTime start = row.getFieldAs(1);
        long seconds = start.toEpochSecond(java.time.ZoneOffset.UTC);
        check.add(row.getFieldAs(0), seconds * 1_000_000, row.getFieldAs(2), row.getFieldAs(3));
    }

    /** One tuple, filled again and again: nothing behind the source keeps it. */
    private static final class Pairs implements Indexes.Emit<Tuple2<Long, Long>> {
        private final Tuple2<Long, Long> event = new Tuple2<>();

        @Override
        public void event(long index, ReaderOutput<Tuple2<Long, Long>> output) {
            long random = Synthetic.splitmix64(index);
            event.f0 = Synthetic.Tumbling.key(random);
            event.f1 = Synthetic.Tumbling.value(random);
            output.collect(event, Synthetic.Tumbling.millis(index));
        }
    }

    /**
     * Keeps what is not behind the greatest time less the bound. A watermark of this engine is
     * cut by the clock, and its sessions take in what is behind it: which events are late would
     * be chance. So the rule is written out, and holds for each event as it comes.
     */
    private static final class InTime extends ProcessFunction<Long, Long> {
        private transient Check check;
        private long promise = Long.MIN_VALUE;

        @Override
        public void open(OpenContext context) {
            check = new Check();
        }

        @Override
        public void close() {
            check.handOver();
        }

        @Override
        public void processElement(Long key, Context context, Collector<Long> output) {
            long time = context.timestamp();
            if (time < promise) {
                check.addLate();
                return;
            }
            promise = Math.max(promise, time - BOUND.toMillis());
            output.collect(key);
        }
    }

    private static final class Running
            extends KeyedProcessFunction<Long, Long, Tuple2<Long, Long>> {
        private final Tuple2<Long, Long> told = new Tuple2<>();
        private transient ValueState<Long> counts;

        @Override
        public void open(OpenContext context) {
            counts = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Types.LONG));
        }

        @Override
        public void processElement(Long key, Context context,
                Collector<Tuple2<Long, Long>> output) throws IOException {
            Long before = counts.value();
            long count = before == null ? 1 : before + 1;
            counts.update(count);
            told.setFields(key, count);
            output.collect(told);
        }
    }

    private static final class CountAndSum
            implements AggregateFunction<Tuple2<Long, Long>, long[], long[]> {
        @Override
        public long[] createAccumulator() {
            return new long[2];
        }

        @Override
        public long[] add(Tuple2<Long, Long> event, long[] sums) {
            sums[0] += 1;
            sums[1] += event.f1;
            return sums;
        }

        @Override
        public long[] getResult(long[] sums) {
            return sums;
        }

        @Override
        public long[] merge(long[] a, long[] b) {
            return new long[] {a[0] + b[0], a[1] + b[1]};
        }
    }

    private static final class Count implements AggregateFunction<Long, long[], long[]> {
        @Override
        public long[] createAccumulator() {
            return new long[2];
        }

        @Override
        public long[] add(Long key, long[] sums) {
            sums[0] += 1;
            return sums;
        }

        @Override
        public long[] getResult(long[] sums) {
            return sums;
        }

        @Override
        public long[] merge(long[] a, long[] b) {
            return new long[] {a[0] + b[0], 0};
        }
    }

    /** A window's result with its key and start. */
    private static final class Named implements
            WindowFunction<long[], Tuple4<Long, Long, Long, Long>, Long, TimeWindow> {
        private final Tuple4<Long, Long, Long, Long> result = new Tuple4<>();

        @Override
        public void apply(Long key, TimeWindow window, Iterable<long[]> sums,
                Collector<Tuple4<Long, Long, Long, Long>> output) {
            long[] found = sums.iterator().next();
            result.setFields(key, window.getStart(), found[0], found[1]);
            output.collect(result);
        }
    }
}
