package peers;

import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.functions;
import org.apache.spark.sql.streaming.StreamingQuery;
import org.apache.spark.sql.streaming.Trigger;

/**
 * Count and sum by key in tumbling windows, from a topic to a topic, in micro-batches. What it
 * writes to a topic is written at least once; it has nothing stronger.
 */
public final class Main {
    /**
     * Its one watermark follows the greatest time of all partitions, and those that are read a
     * little later would have late events with the bound alone.
     */
    private static final long SKEW_MILLIS = 50;

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        Options.run(arguments, Main::start);
    }

    private static AutoCloseable start(Options options, String from, String to) throws Exception {
        // Reasons are in the README beside this.
        SparkSession spark = SparkSession.builder()
                .master("local[2]")
                .appName(to)
                .config("spark.ui.enabled", "false")
                .config("spark.local.dir", options.directory().toString())
                .config("spark.sql.shuffle.partitions", "1")
                .config("spark.sql.session.timeZone", "UTC")
                .config("spark.sql.streaming.metricsEnabled", "false")
                .getOrCreate();
        StreamingQuery query = spark.readStream()
                .format("kafka")
                .option("kafka.bootstrap.servers", options.brokers())
                .option("subscribe", from)
                .option("startingOffsets", "earliest")
                .load()
                .select(functions.from_json(functions.col("value").cast("string"),
                        org.apache.spark.sql.types.StructType.fromDDL(
                                "key BIGINT, value BIGINT, time BIGINT")).as("e"))
                .selectExpr("e.key AS key", "e.value AS value", "timestamp_millis(e.time) AS time")
                .withWatermark("time", Options.BOUND_MILLIS + SKEW_MILLIS + " milliseconds")
                .groupBy(functions.col("key"), functions.window(functions.col("time"),
                        options.windowMillis() + " milliseconds").as("w"))
                .agg(functions.expr("count(*)").as("count"), functions.expr("sum(value)").as("sum"))
                .selectExpr("CAST(key AS STRING) AS key", "to_json(named_struct('key', key,"
                        + " 'start', unix_millis(w.start), 'count', count, 'sum', sum)) AS value")
                .writeStream()
                .format("kafka")
                .option("kafka.bootstrap.servers", options.brokers())
                .option("topic", to)
                .option("checkpointLocation", options.directory().resolve(to).toString())
                .outputMode("append")
                .trigger(Trigger.ProcessingTime(options.commitMillis()))
                .start();
        return query::stop;
    }
}
