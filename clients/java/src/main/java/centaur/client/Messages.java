package centaur.client;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;

/** The numbered test messages, the same in every language, and what a received one looks like in the output. */
public final class Messages {
    private Messages() {}

    /** Message {@code number} of a run: text beyond ASCII everywhere, and every byte value in the odd bodies. */
    public static MessageBuilder numbered(String topic, String prefix, int number) {
        return numbered(topic, prefix, number, 0);
    }

    /** The same; a body that is shorter than {@code bodyBytes} is filled up with every byte value in turn. */
    public static MessageBuilder numbered(String topic, String prefix, int number, int bodyBytes) {
        return ClientServiceProvider.loadService()
            .newMessageBuilder()
            .setTopic(topic)
            .setBody(body(prefix, number, bodyBytes))
            .setTag("tag-" + number)
            .setKeys(prefix + "-key-" + number, prefix + "-schlüssel-" + number)
            .addProperty("number", Integer.toString(number))
            .addProperty("sender", prefix + " Grüße 世界");
    }

    private static byte[] body(String prefix, int number, int bodyBytes) {
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        body.writeBytes((prefix + "-" + number + ": Grüße, 世界, 🚀").getBytes(StandardCharsets.UTF_8));
        for (int value = 0; number % 2 == 1 && value < 256; value++) {
            body.write(value);
        }
        int missing = bodyBytes - body.size();
        for (int at = 0; at < missing; at++) {
            body.write(at);
        }
        return body.toByteArray();
    }

    /** Every field of a received message that a sender can set or a server must add, if the client shows it. */
    public static Map<String, Object> fields(MessageView message) {
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("id", message.getMessageId().toString());
        fields.put("body", base64(message.getBody()));
        fields.put("tag", message.getTag().orElse(null));
        fields.put("keys", new ArrayList<>(message.getKeys()));
        fields.put("properties", message.getProperties());
        fields.put("born_host", message.getBornHost());
        fields.put("attempt", message.getDeliveryAttempt());
        fields.put("group", message.getMessageGroup().orElse(null));
        fields.put("due_ms", message.getDeliveryTimestamp().orElse(null));
        try {
            fields.put("priority", message.getPriority().orElse(null));
            fields.put("lite_topic", message.getLiteTopic().orElse(null));
        } catch (NoSuchMethodError olderClient) {
            return fields;
        }
        return fields;
    }

    private static String base64(ByteBuffer body) {
        byte[] bytes = new byte[body.remaining()];
        body.duplicate().get(bytes);
        return Base64.getEncoder().encodeToString(bytes);
    }
}
