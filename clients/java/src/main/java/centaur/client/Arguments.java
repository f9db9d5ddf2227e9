package centaur.client;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The command line: where the server is, what to do, and the settings of that. */
public record Arguments(String endpoint, String scenario, Map<String, String> settings) {
    /** Reads the words of the command line; a malformed one is an {@link IllegalArgumentException}. */
    public static Arguments parse(String[] words) {
        if (words.length < 2) {
            throw new IllegalArgumentException("usage: <endpoint> <scenario> [key=value ...]");
        }
        Map<String, String> settings = new HashMap<>();
        for (int i = 2; i < words.length; i++) {
            int equals = words[i].indexOf('=');
            if (equals < 1) {
                throw new IllegalArgumentException("a setting is written key=value, not " + words[i]);
            }
            settings.put(words[i].substring(0, equals), words[i].substring(equals + 1));
        }
        return new Arguments(words[0], words[1], Map.copyOf(settings));
    }

    public String text(String key) {
        String value = settings.get(key);
        if (value == null) {
            throw new IllegalArgumentException("the scenario " + scenario + " needs " + key + "=");
        }
        return value;
    }

    public String text(String key, String otherwise) {
        return settings.getOrDefault(key, otherwise);
    }

    public int number(String key, int otherwise) {
        return Integer.parseInt(text(key, Integer.toString(otherwise)));
    }

    /** A list written with commas. */
    public List<String> words(String key, String otherwise) {
        return List.of(text(key, otherwise).split(","));
    }

    /** The word of a list whose turn it is at message {@code number}; the list begins again at its end. */
    public String turn(String key, int number, String otherwise) {
        List<String> words = words(key, otherwise);
        return words.get(number % words.size());
    }

    public Duration seconds(String key, int otherwise) {
        return Duration.ofSeconds(number(key, otherwise));
    }

    public String prefix() {
        return text("prefix", "java");
    }

    public boolean tls() {
        return text("tls", "off").equals("on");
    }
}
