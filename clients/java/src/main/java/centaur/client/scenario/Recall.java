package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Input;
import centaur.client.Messages;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;

/** Delayed messages are recalled: one in time, the same once more, and one when it has been delivered. */
public final class Recall {
    private static final long LONG_MS = 20_000;
    private static final long SHORT_MS = 2_000;

    private Recall() {}

    public static void run(Arguments arguments) throws StepFailed {
        String topic = arguments.text("topic");
        Producer producer = Step.named("start", () -> Clients.of(arguments).producer(topic));
        String recallable = Step.named("sent", () -> sendDelayed(producer, arguments, 0, LONG_MS));
        for (String step : new String[] {"recalled", "again"}) {
            String id = Step.named(step, () -> producer.recallMessage(topic, recallable).getMessageId().toString());
            Output.success(step, "id", id);
        }
        String delivered = Step.named("sent", () -> sendDelayed(producer, arguments, 1, SHORT_MS));
        // The runner says so when somebody has received it.
        Input.awaitStop();
        recallTooLate(producer, topic, delivered);
        Step.named("stop", () -> {
            producer.close();
            return null;
        });
        Output.success("end");
    }

    /** Sends a message that is due in {@code delayMs}; returns its recall handle. */
    private static String sendDelayed(Producer producer, Arguments arguments, int number, long delayMs)
            throws ClientException {
        long dueMs = System.currentTimeMillis() + delayMs;
        SendReceipt receipt = producer.send(Messages.numbered(arguments.text("topic"), arguments.prefix(), number)
            .setDeliveryTimestamp(dueMs)
            .build());
        Output.success("sent", "number", number, "id", receipt.getMessageId().toString(), "due_ms", dueMs);
        return receipt.getRecallHandle();
    }

    private static void recallTooLate(Producer producer, String topic, String handle) throws StepFailed {
        try {
            producer.recallMessage(topic, handle);
        } catch (Exception expected) {
            Output.success("late", "text", Output.describe(expected));
            return;
        }
        throw new StepFailed("late", "the message was recalled");
    }
}
