package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Messages;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import java.time.Duration;
import java.util.List;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/** A simple consumer that gives a message back soon, takes it again, and acknowledges it. */
public final class Retry {
    private static final Duration AWAIT = Duration.ofSeconds(12);
    private static final Duration INVISIBLE = Duration.ofSeconds(60);
    private static final Duration RETURNED = Duration.ofSeconds(2);

    private Retry() {}

    public static void run(Arguments arguments) throws StepFailed {
        SimpleConsumer consumer = Step.named("start", () -> Clients.of(arguments).simpleConsumer(AWAIT));
        MessageView first = attempt(consumer);
        Step.named("returned", () -> {
            consumer.changeInvisibleDuration(first, RETURNED);
            return null;
        });
        Output.success("returned");
        MessageView second = attempt(consumer);
        Step.named("ack", () -> {
            consumer.ack(second);
            return null;
        });
        Output.success("ack");
        Step.named("stop", () -> {
            consumer.close();
            return null;
        });
        Output.success("end");
    }

    private static MessageView attempt(SimpleConsumer consumer) throws StepFailed {
        List<MessageView> received = Step.named("attempt", () -> consumer.receive(1, INVISIBLE));
        if (received.isEmpty()) {
            throw new StepFailed("attempt", "nothing was received");
        }
        Output.success("attempt", "message", Messages.fields(received.get(0)));
        return received.get(0);
    }
}
