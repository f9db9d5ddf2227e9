package centaur.client;

import java.time.Duration;

/** Time since its creation, on the clock that never jumps. */
public final class Stopwatch {
    private final long start = System.nanoTime();

    public long ms() {
        return (System.nanoTime() - start) / 1_000_000;
    }

    public boolean reached(Duration limit) {
        return ms() >= limit.toMillis();
    }
}
