package centaur.client;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/** What the runner says to a program while it runs: one command per line of standard input. */
public final class Input {
    private static final BufferedReader IN =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));

    private Input() {}

    /** The words of the next line; null when it says {@code stop} or the input ends. */
    public static String[] command() throws IOException {
        String line = IN.readLine();
        return line == null || line.equals("stop") ? null : line.split(" ");
    }

    public static void awaitStop() throws StepFailed {
        Step.named("input", () -> {
            String[] words = command();
            while (words != null) {
                words = command();
            }
            return null;
        });
    }
}
