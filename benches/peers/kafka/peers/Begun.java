package peers;

import java.time.Instant;

/** When a job decoded its first event. One job runs at a time in a process. */
final class Begun {
    private static volatile long nanos;
    private static boolean marked;

    private Begun() {}

    /** Called for each event, by one thread. */
    static void mark() {
        if (!marked) {
            marked = true;
            Instant now = Instant.now();
            nanos = now.getEpochSecond() * 1_000_000_000L + now.getNano();
        }
    }

    /** Prints the time since the Unix epoch, in ns, and is ready for the next job. */
    static void tell() {
        System.out.println("begun=" + nanos);
        System.out.flush();
        marked = false;
    }
}
