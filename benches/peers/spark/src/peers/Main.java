package peers;

import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.streaming.Trigger;

/** `Main EVENTS WORKERS memory|rocksdb BATCH WARM DIRECTORY`: one job, after a warm-up of it. */
public final class Main {
    private static final String PROVIDERS = "org.apache.spark.sql.execution.streaming.state.";

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 6) {
            System.err.println("usage: EVENTS WORKERS memory|rocksdb BATCH WARM DIRECTORY");
            System.exit(2);
        }
        long events = Long.parseLong(arguments[0]);
        long warm = Long.parseLong(arguments[4]);
        Path directory = Files.createDirectories(Path.of(arguments[5]));
        boolean rocks = arguments[2].equals("rocksdb");
        // Reasons are in the README beside this.
        SparkSession spark = SparkSession.builder()
                .master("local[" + arguments[1] + "]")
                .appName("tumbling")
                .config("spark.ui.enabled", "false")
                .config("spark.local.dir", directory.toString())
                .config("spark.sql.shuffle.partitions", arguments[1])
                .config("spark.sql.session.timeZone", "UTC")
                .config("spark.sql.streaming.stateStore.providerClass", PROVIDERS
                        + (rocks ? "RocksDBStateStoreProvider" : "HDFSBackedStateStoreProvider"))
                .config("spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled",
                        "true")
                .config("spark.sql.streaming.stateStore.rocksdb.trackTotalNumberOfRows", "false")
                .getOrCreate();
        if (warm > 0) {
            run(spark, warm, arguments, directory.resolve("warm"));
        }
        run(spark, events, arguments, directory.resolve("run"));
        System.out.println("version=" + spark.version());
        System.out.println(Check.line(events));
        System.exit(0);
    }

    private static void run(SparkSession spark, long events, String[] arguments,
            Path checkpoint)            throws Exception {
        Check.reset();
        spark.readStream()
                .format("peers.Events")
                .option("events", events)
                .option("batch", arguments[3])
                .option("workers", arguments[1])
                .load()
                .withWatermark("time", "100 milliseconds")
                .selectExpr("key", "value", "window(time, '1 second') AS w")
                .groupBy("key", "w")
                .agg(org.apache.spark.sql.functions.expr("count(*)").as("count"),
                        org.apache.spark.sql.functions.expr("sum(value)").as("sum"))
                .selectExpr("key", "w.start AS start", "count", "sum")
                .writeStream()
                .format("peers.Checking")
                .outputMode("append")
                .option("checkpointLocation", checkpoint.toString())
                .trigger(Trigger.AvailableNow())
                .start()
                .awaitTermination();
    }
}
