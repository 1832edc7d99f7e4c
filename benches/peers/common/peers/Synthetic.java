package peers;

/** The synthetic events: the same as in the benches of this directory's parent. */
final class Synthetic {
    private Synthetic() {}

    static long splitmix64(long index) {
        long z = index + 0x9e3779b97f4a7c15L;
        z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
        z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
        return z ^ (z >>> 31);
    }

    /** B2: 100,000 keys, a million events to a second. Times are in whole ms here. */
    static final class Tumbling {
        static long key(long random) {
            return (random >>> 32) % 100_000;
        }

        static long value(long random) {
            return random & 0xffff;
        }

        static long millis(long index) {
            return index / 1_000;
        }
    }

    /** B3: 10,000 keys, 100,000 events to a second. */
    static final class Hopping {
        static long key(long index) {
            return (splitmix64(index) >>> 32) % 10_000;
        }

        static long millis(long index) {
            return index / 100;
        }
    }

    /** B4: a million keys, a million events to a second, five in a hundred a second behind. */
    static final class Sessions {
        static long key(long random) {
            return (random >>> 32) % 1_000_000;
        }

        static long millis(long index, long random) {
            long behind = Long.remainderUnsigned(random, 100) < 5 ? 1_000_000 : 0;
            return Math.floorDiv(index - behind, 1_000);
        }
    }
}
