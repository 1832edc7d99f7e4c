package peers;

/**
 * The order-independent checksum of a job's results, and the clock that runs from its first event
 * to its last result. One job runs at a time, and one task writes here.
 */
final class Check {
    static volatile long started;
    static volatile long ended;
    static long results;
    static long sum;
    static long late;

    private Check() {}

    static void reset() {
        started = ended = results = sum = late = 0;
    }

    /** `start` in µs, as elsewhere. */
    static void add(long key, long start, long count, long total) {
        results += 1;
        long mixed = Synthetic.splitmix64(key ^ Long.rotateLeft(start, 32)) * count;
        sum += mixed ^ Long.rotateLeft(total, 17);
    }

    static String line(long events) {
        return String.format(
                "events=%d seconds=%.6f results=%d sum=%s late=%d",
                events, (ended - started) / 1e9, results, Long.toUnsignedString(sum), late);
    }
}
