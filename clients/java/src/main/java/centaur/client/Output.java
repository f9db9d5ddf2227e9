package centaur.client;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Map;

/** One line of JSON per step on standard output; lines of several threads do not mix. */
public final class Output {
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private Output() {}

    /** Reports a step that went well; {@code fields} are names and values in turn. */
    public static void success(String step, Object... fields) {
        print(step, true, fields);
    }

    public static void failure(String step, Throwable error) {
        print(step, false, "error", describe(error));
    }

    /** An error and its causes in one text. */
    public static String describe(Throwable error) {
        StringBuilder text = new StringBuilder(String.valueOf(error));
        for (Throwable cause = error.getCause(); cause != null; cause = cause.getCause()) {
            text.append("; because of ").append(cause);
        }
        return text.toString();
    }

    private static synchronized void print(String step, boolean ok, Object... fields) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("step", step);
        line.put("ok", ok);
        for (int i = 0; i < fields.length; i += 2) {
            line.put((String) fields[i], fields[i + 1]);
        }
        OUT.println(json(line));
    }

    private static String json(Object value) {
        if (value == null || value instanceof Number || value instanceof Boolean) {
            return String.valueOf(value);
        }
        if (value instanceof Map<?, ?> map) {
            return joined('{', map.entrySet(), '}');
        }
        if (value instanceof Map.Entry<?, ?> entry) {
            return json(entry.getKey().toString()) + ":" + json(entry.getValue());
        }
        if (value instanceof Collection<?> collection) {
            return joined('[', collection, ']');
        }
        return quoted(value.toString());
    }

    private static String joined(char open, Collection<?> parts, char close) {
        StringBuilder text = new StringBuilder().append(open);
        for (Object part : parts) {
            if (text.length() > 1) {
                text.append(',');
            }
            text.append(json(part));
        }
        return text.append(close).toString();
    }

    private static String quoted(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                quoted.append('\\').append(c);
            } else if (c < 0x20) {
                quoted.append(String.format("\\u%04x", (int) c));
            } else {
                quoted.append(c);
            }
        }
        return quoted.append('"').toString();
    }
}
