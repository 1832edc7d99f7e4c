package peers;

/**
 * The order-independent checksum of results, and the clock that runs from a job's first event to
 * its last result. Each task adds to its own, and hands it over when it ends. One job runs at a
 * time in a process.
 */
final class Check {
    private static long started;
    private static long ended;
    private static Check total;

    private long results;
    private long sum;
    private long late;

    static synchronized void reset() {
        started = 0;
        ended = 0;
        total = new Check();
    }

    /** A source is about to make its first event. */
    static synchronized void start() {
        if (started == 0) {
            started = System.nanoTime();
        }
    }

    /** `start` in µs, as elsewhere. */
    void add(long key, long start, long count, long value) {
        results += 1;
        long mixed = Synthetic.splitmix64(key ^ Long.rotateLeft(start, 32)) * count;
        sum += mixed ^ Long.rotateLeft(value, 17);
    }

    /** A row by a number in which all of its fields are mixed. */
    void add(long mixed) {
        results += 1;
        sum += mixed;
    }

    /** A row that was added and does not hold any more. */
    void takeBack(long mixed) {
        results -= 1;
        sum -= mixed;
    }

    /** What is mixed of a row so far, which begins with its length, and its next field. */
    static long mix(long mixed, long field) {
        return Long.rotateLeft((mixed ^ field) * 0x9e3779b97f4a7c15L, 29);
    }

    /** A text as a number: FNV-1a. */
    static long number(byte[] text) {
        long hash = 0xcbf29ce484222325L;
        for (byte each : text) {
            hash = (hash ^ Byte.toUnsignedLong(each)) * 0x100000001b3L;
        }
        return hash;
    }

    void addLate() {
        late += 1;
    }

    void handOver() {
        synchronized (Check.class) {
            total.results += results;
            total.sum += sum;
            total.late += late;
            ended = System.nanoTime();
        }
    }

    static synchronized String line(long events) {
        return String.format(
                "events=%d seconds=%.6f results=%d sum=%s late=%d", events,
                (ended - started) / 1e9, total.results, Long.toUnsignedString(total.sum),
                total.late);
    }
}
