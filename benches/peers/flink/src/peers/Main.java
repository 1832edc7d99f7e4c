package peers;

import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.util.EnvironmentInformation;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** One job, after a warm-up of it, with {@link #USAGE}. */
public final class Main {
    private static final String USAGE =
            "JOB EVENTS WORKERS heap|rocksdb keyby|chained WARM DIRECTORY [FILE]";

    /** What the job has whose state is larger. */
    private static final String BUDGET = "32mb";

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 7 && arguments.length != 8) {
            System.err.println("usage: " + USAGE);
            System.exit(2);
        }
        long events = Long.parseLong(arguments[1]);
        long warm = Long.parseLong(arguments[5]);
        if (arguments.length == 8) {
            Input.read(Path.of(arguments[7]));
        }
        if (warm > 0) {
            run(arguments, warm);
        }
        run(arguments, events);
        System.out.println("version=" + EnvironmentInformation.getVersion());
        System.out.println(Check.line(events));
        // Threads of the cluster that linger would hold the process.
        System.exit(0);
    }

    private static void run(String[] arguments, long events) throws Exception {
        Check.reset();
        int workers = Integer.parseInt(arguments[2]);
        Path directory = Files.createDirectories(Path.of(arguments[6]));
        var settings = settings(arguments[0], arguments[3], directory);
        var flink = StreamExecutionEnvironment.createLocalEnvironment(workers, settings);
        flink.setRuntimeMode(RuntimeExecutionMode.STREAMING);
        new Jobs(flink, events, arguments[4].equals("chained")).add(arguments[0]);
        flink.execute(arguments[0]);
    }

    /** Reasons are in the README beside this. */
    private static Configuration settings(String job, String state, Path directory) {
        Configuration settings = new Configuration();
        settings.setString("pipeline.object-reuse", "true");
        settings.setString("pipeline.generic-types", "false");
        settings.setString("execution.buffer-timeout.enabled", "false");
        settings.setString("taskmanager.memory.network.min", "128mb");
        settings.setString("taskmanager.memory.network.max", "128mb");
        settings.setString("taskmanager.memory.managed.size",
                job.equals("running") ? BUDGET : "1gb");
        settings.setString("io.tmp.dirs", directory.toString());
        settings.setString("state.backend.type", state.equals("heap") ? "hashmap" : "rocksdb");
        settings.setString("state.backend.rocksdb.localdir", directory.toString());
        settings.setString("state.backend.rocksdb.timer-service.factory", "HEAP");
        if (job.equals("running")) {
            // With the default of 64 MiB so little memory is full after every write.
            settings.setString("state.backend.rocksdb.writebuffer.size", "4mb");
        }
        return settings;
    }
}
