package peers;

import java.io.IOException;
import java.time.Duration;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple4;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.sink.TransactionNamingStrategy;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.windowing.WindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** Count and sum by key in tumbling windows, from a topic to a topic, exactly once. */
public final class Main {
    private static final TypeInformation<long[]> LONGS =
            PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO;
    private static final TypeInformation<Tuple2<Long, Long>> EVENT =
            Types.TUPLE(Types.LONG, Types.LONG);
    private static final TypeInformation<Tuple4<Long, Long, Long, Long>> RESULT =
            Types.TUPLE(Types.LONG, Types.LONG, Types.LONG, Types.LONG);

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        Options.run(arguments, Main::start);
    }

    private static AutoCloseable start(Options options, String from, String to)
            throws Exception {
        var flink = StreamExecutionEnvironment.createLocalEnvironment(1, settings(options));
        flink.setRuntimeMode(RuntimeExecutionMode.STREAMING);
        var source = KafkaSource.<Tuple2<Long, Long>>builder()
                .setBootstrapServers(options.brokers())
                .setTopics(from)
                .setGroupId("flink-" + to)
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setProperty("isolation.level", "read_committed")
                .setDeserializer(new Events(options.format()))
                .build();
        var sink = KafkaSink.<Tuple4<Long, Long, Long, Long>>builder()
                .setBootstrapServers(options.brokers())
                .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                .setTransactionalIdPrefix("flink-" + to)
                .setTransactionNamingStrategy(TransactionNamingStrategy.POOLING)
                .setProperty("transaction.timeout.ms", "600000")
                .setProperty("batch.size", "131072")
                .setRecordSerializer(
                        KafkaRecordSerializationSchema.<Tuple4<Long, Long, Long, Long>>builder()
                                .setTopic(to)
                                .setKeySerializationSchema(new Keys())
                                .setValueSerializationSchema(new Values(options.format()))
                                .build())
                .build();
        // Times are those of the records, which are those of the events.
        var times = WatermarkStrategy.<Tuple2<Long, Long>>forBoundedOutOfOrderness(
                Duration.ofMillis(Options.BOUND_MILLIS));
        flink.fromSource(source, times, "events", EVENT)
                .keyBy(event -> event.f0, Types.LONG)
                .window(TumblingEventTimeWindows.of(Duration.ofMillis(options.windowMillis())))
                .aggregate(new CountAndSum(), new Named(), LONGS, RESULT)
                .sinkTo(sink);
        JobClient client = flink.executeAsync(to);
        return () -> client.cancel().get();
    }

    /** Reasons are in the README beside this. */
    private static Configuration settings(Options options) {
        Configuration settings = new Configuration();
        String directory = options.directory().toString();
        settings.setString("pipeline.object-reuse", "true");
        settings.setString("pipeline.generic-types", "false");
        settings.setString("taskmanager.memory.network.min", "128mb");
        settings.setString("taskmanager.memory.network.max", "128mb");
        settings.setString("taskmanager.memory.managed.size", "1gb");
        settings.setString("io.tmp.dirs", directory);
        settings.setString(
                "state.backend.type", options.state().equals("heap") ? "hashmap" : "rocksdb");
        settings.setString("state.backend.rocksdb.localdir", directory);
        settings.setString("state.backend.rocksdb.timer-service.factory", "HEAP");
        settings.setString("execution.checkpointing.incremental", "true");
        settings.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        settings.setString("execution.checkpointing.interval", options.commitMillis() + "ms");
        settings.setString("execution.checkpointing.storage", "filesystem");
        settings.setString("execution.checkpointing.dir", "file://" + directory + "/checkpoints");
        settings.setString("restart-strategy.type", "disable");
        if (options.quick()) {
            settings.setString("execution.buffer-timeout.interval", "1ms");
            settings.setString("pipeline.auto-watermark-interval", "1ms");
        } else {
            settings.setString("execution.buffer-timeout.enabled", "false");
        }
        return settings;
    }

    /** One tuple, filled again and again: nothing behind the source keeps it. */
    private static final class Events
            implements KafkaRecordDeserializationSchema<Tuple2<Long, Long>> {
        private final String format;
        private transient Codec codec;
        private transient Tuple2<Long, Long> event;

        Events(String format) {
            this.format = format;
        }

        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record,
                Collector<Tuple2<Long, Long>> output) throws IOException {
            if (codec == null) {
                codec = new Codec(format);
                event = new Tuple2<>();
            }
            Begun.mark();
            codec.decode(record.value());
            event.setFields(codec.key, codec.value);
            output.collect(event);
        }

        @Override
        public TypeInformation<Tuple2<Long, Long>> getProducedType() {
            return EVENT;
        }
    }

    private static final class Keys
            implements SerializationSchema<Tuple4<Long, Long, Long, Long>> {
        @Override
        public byte[] serialize(Tuple4<Long, Long, Long, Long> row) {
            return Codec.key(row.f0);
        }
    }

    private static final class Values
            implements SerializationSchema<Tuple4<Long, Long, Long, Long>> {
        private final String format;
        private transient Codec codec;

        Values(String format) {
            this.format = format;
        }

        @Override
        public byte[] serialize(Tuple4<Long, Long, Long, Long> row) {
            if (codec == null) {
                codec = new Codec(format);
            }
            return codec.encode(row.f0, row.f1, row.f2, row.f3);
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
