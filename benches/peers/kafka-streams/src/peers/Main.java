package peers;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.BuiltInDslStoreSuppliers;

/** Count and sum by key in tumbling windows, from a topic to a topic, exactly once. */
public final class Main {
    private static final Serde<Long> KEYS =
            Serdes.serdeFrom((topic, key) -> Codec.key(key), (topic, bytes) -> Codec.key(bytes));
    private static final Serde<long[]> SUMS = Serdes.serdeFrom(
            (topic, sums) -> sums == null ? null
                    : ByteBuffer.allocate(16).putLong(sums[0]).putLong(sums[1]).array(),
            (topic, bytes) -> {
                if (bytes == null) {
                    return null;
                }
                ByteBuffer buffer = ByteBuffer.wrap(bytes);
                return new long[] {buffer.getLong(), buffer.getLong()};
            });

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        Options.run(arguments, Main::start);
    }

    private static AutoCloseable start(Options options, String from, String to) {
        Codec in = new Codec(options.format());
        Codec out = new Codec(options.format());
        // The key stands in the record, too. Nothing is boxed but the value.
        Deserializer<Long> values = (topic, bytes) -> {
            Begun.mark();
            try {
                in.decode(bytes);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            return in.value;
        };
        Serde<Long> events = Serdes.serdeFrom(Serdes.Long().serializer(), values);
        Materialized<Long, long[], org.apache.kafka.streams.state.WindowStore<
                org.apache.kafka.common.utils.Bytes, byte[]>> sums =
                Materialized.with(KEYS, SUMS);
        if (options.state().equals("memory")) {
            sums = sums.withStoreType(BuiltInDslStoreSuppliers.IN_MEMORY);
        }
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(from, Consumed.with(KEYS, events))
                .groupByKey(Grouped.with(KEYS, events))
                .windowedBy(TimeWindows.ofSizeAndGrace(
                        Duration.ofMillis(options.windowMillis()),
                        Duration.ofMillis(Options.BOUND_MILLIS)))
                .emitStrategy(EmitStrategy.onWindowClose())
                .aggregate(() -> new long[2], (key, value, found) -> {
                    found[0] += 1;
                    found[1] += value;
                    return found;
                }, sums)
                .toStream()
                .map((window, found) -> KeyValue.pair(window.key(), out.encode(
                        window.key(), window.window().start(), found[0], found[1])))
                .to(to, Produced.with(KEYS, Serdes.ByteArray()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings(options, to));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            System.exit(1);
            return null;
        });
        streams.start();
        return () -> streams.close(Duration.ofSeconds(30));
    }

    /** Reasons are in the README beside this. */
    private static Properties settings(Options options, String to) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "streams-" + to);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, options.brokers());
        settings.put(StreamsConfig.STATE_DIR_CONFIG, options.directory().toString());
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(
                StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, options.commitMillis());
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
        settings.put("auto.offset.reset", "earliest");
        settings.put("producer.batch.size", 131_072);
        if (options.quick()) {
            settings.put("producer.linger.ms", 0);
            settings.put(
                    StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_WINDOWED_AGGREGATION,
                    (long) options.commitMillis());
        }
        return settings;
    }
}
