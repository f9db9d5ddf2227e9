package centaur.client;

import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.Transaction;

/** Messages of every kind: what makes a numbered message one of a kind, and how it is sent. */
public final class Kinds {
    private Kinds() {}

    /** Sends message {@code number} as the kind whose turn it is; returns the fields of its step. */
    public static Object[] sendInTurn(Producer producer, Arguments arguments, int number) throws ClientException {
        int bodyBytes = arguments.number("body_bytes", 0);
        MessageBuilder builder = Messages.numbered(arguments.text("topic"), arguments.prefix(), number, bodyBytes);
        List<Object> fields = new ArrayList<>(List.of("number", number));
        switch (arguments.turn("kinds", number, "normal")) {
            case "fifo" -> builder.setMessageGroup(arguments.turn("groups", number, ""));
            case "delay" -> {
                long delayS = Long.parseLong(arguments.turn("delays_s", number, ""));
                long dueMs = System.currentTimeMillis() + delayS * 1000;
                builder.setDeliveryTimestamp(dueMs);
                fields.addAll(List.of("due_ms", dueMs));
            }
            case "priority" -> builder.setPriority(Integer.parseInt(arguments.turn("priorities", number, "")));
            case "lite" -> builder.setLiteTopic(arguments.turn("lites", number, ""));
            case "transaction" -> {
                Transaction transaction = producer.beginTransaction();
                fields.addAll(List.of("id", producer.send(builder.build(), transaction).getMessageId().toString()));
                transaction.commit();
                return fields.toArray();
            }
            case "normal" -> { }
            default -> throw new IllegalArgumentException("there is no kind named " + arguments.text("kinds"));
        }
        fields.addAll(List.of("id", producer.send(builder.build()).getMessageId().toString()));
        return fields.toArray();
    }
}
