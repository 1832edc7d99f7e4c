package peers;

import com.hazelcast.config.Config;
import com.hazelcast.core.Hazelcast;
import com.hazelcast.core.HazelcastInstance;
import com.hazelcast.jet.accumulator.LongLongAccumulator;
import com.hazelcast.jet.aggregate.AggregateOperation;
import com.hazelcast.jet.aggregate.AggregateOperation1;
import com.hazelcast.jet.datamodel.KeyedWindowResult;
import com.hazelcast.jet.pipeline.BatchSource;
import com.hazelcast.jet.pipeline.Pipeline;
import com.hazelcast.jet.pipeline.Sink;
import com.hazelcast.jet.pipeline.SinkBuilder;
import com.hazelcast.jet.pipeline.SourceBuilder;
import com.hazelcast.jet.pipeline.WindowDefinition;
import java.io.Serializable;

/** B2 on Hazelcast's stream engine, Jet, after a warm-up of it, with {@link #USAGE}. */
public final class Main {
    private static final String USAGE = "EVENTS WORKERS WARM";
    private static final long BOUND = 100;
    private static final int AT_ONCE = 512;

    private Main() {}

    public static void main(String[] arguments) {
        if (arguments.length != 3) {
            System.err.println("usage: " + USAGE);
            System.exit(2);
        }
        long events = Long.parseLong(arguments[0]);
        int workers = Integer.parseInt(arguments[1]);
        long warm = Long.parseLong(arguments[2]);
        HazelcastInstance member = Hazelcast.newHazelcastInstance(settings(workers));
        if (warm > 0) {
            run(member, warm, workers);
        }
        run(member, events, workers);
        System.out.println(Check.line(events));
        System.exit(0);
    }

    private static void run(HazelcastInstance member, long events, int workers) {
        Check.reset();
        member.getJet().newJob(job(events, workers)).join();
    }

    /** One member that looks for no other. */
    private static Config settings(int workers) {
        Config config = new Config();
        config.setProperty("hazelcast.logging.type", "none");
        config.setProperty("hazelcast.phone.home.enabled", "false");
        config.getJetConfig().setEnabled(true).setCooperativeThreadCount(workers);
        var network = config.getNetworkConfig();
        network.getInterfaces().setEnabled(true).addInterface("127.0.0.1");
        network.getJoin().getAutoDetectionConfig().setEnabled(false);
        network.getJoin().getMulticastConfig().setEnabled(false);
        return config;
    }

    private static Pipeline job(long events, int workers) {
        BatchSource<Event> source = SourceBuilder
                .batch("events", context ->
                        new Maker(events, context.globalProcessorIndex(), workers))
                .fillBufferFn(Maker::fill)
                .distributed(workers)
                .build();
        Sink<KeyedWindowResult<Long, LongLongAccumulator>> check = SinkBuilder
                .sinkBuilder("check", context -> new Check())
                .<KeyedWindowResult<Long, LongLongAccumulator>>receiveFn((sums, result) ->
                        sums.add(result.key(), result.start() * 1_000,
                                result.result().get1(), result.result().get2()))
                .destroyFn(Check::handOver)
                .preferredLocalParallelism(workers)
                .build();
        Pipeline pipeline = Pipeline.create();
        pipeline.readFrom(source)
                .addTimestamps(event -> event.millis(), BOUND)
                .groupingKey(event -> event.key())
                .window(WindowDefinition.tumbling(1_000))
                .aggregate(countAndSum())
                .setLocalParallelism(workers)
                .writeTo(check);
        return pipeline;
    }

    private static AggregateOperation1<Event, LongLongAccumulator, LongLongAccumulator>
            countAndSum() {
        return AggregateOperation
                .withCreate(LongLongAccumulator::new)
                .<Event>andAccumulate((sums, event) -> {
                    sums.set1(sums.get1() + 1);
                    sums.set2(sums.get2() + event.value());
                })
                .andCombine((sums, others) -> {
                    sums.set1(sums.get1() + others.get1());
                    sums.set2(sums.get2() + others.get2());
                })
                .andExportFinish(sums -> new LongLongAccumulator(sums.get1(), sums.get2()));
    }

    private record Event(long key, long value, long millis) implements Serializable {}

    /** Of n sources each makes every nth event, many to a call. */
    private static final class Maker {
        private final long events;
        private final int step;
        private long next;
        private boolean started;

        Maker(long events, int first, int step) {
            this.events = events;
            this.step = step;
            next = first;
        }

        void fill(SourceBuilder.SourceBuffer<Event> buffer) {
            if (!started) {
                started = true;
                Check.start();
            }
            long end = Math.min(next + (long) AT_ONCE * step, events);
            for (; next < end; next += step) {
                long random = Synthetic.splitmix64(next);
                buffer.add(new Event(Synthetic.Tumbling.key(random),
                        Synthetic.Tumbling.value(random), Synthetic.Tumbling.millis(next)));
            }
            if (next >= events) {
                buffer.close();
            }
        }
    }
}
