package peers;

import java.nio.file.Files;
import java.nio.file.Path;

/**
 * What all engines are told. Jobs come by pairs of topics, one after the other: each runs until a
 * line comes in, so that whoever reads the results says when they are complete.
 */
record Options(String brokers, String format, Path directory, long commitMillis,
        long windowMillis, String state, boolean quick, String[] topics) {
    static final String USAGE =
            "BROKERS json|binary DIRECTORY COMMIT_MS WINDOW_MS STATE throughput|latency"
            + " (FROM TO)..";
    /** How far events may be out of order. */
    static final long BOUND_MILLIS = 100;

    interface Job {
        /** Starts it, and returns what stops it. */
        AutoCloseable start(Options options, String from, String to) throws Exception;
    }

    static void run(String[] arguments, Job job) throws Exception {
        if (arguments.length < 9 || arguments.length % 2 == 0) {
            System.err.println("usage: " + USAGE);
            System.exit(2);
        }
        String[] topics = java.util.Arrays.copyOfRange(arguments, 7, arguments.length);
        Options options = new Options(
                arguments[0], arguments[1], Files.createDirectories(Path.of(arguments[2])),
                Long.parseLong(arguments[3]), Long.parseLong(arguments[4]), arguments[5],
                arguments[6].equals("latency"), topics);
        for (int i = 0; i < topics.length; i += 2) {
            AutoCloseable running = job.start(options, topics[i], topics[i + 1]);
            int next;
            do {
                next = System.in.read();
            } while (next != '\n' && next >= 0);
            Begun.tell();
            running.close();
        }
        // Threads that linger would hold the process.
        System.exit(0);
    }
}
