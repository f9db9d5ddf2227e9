package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Messages;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/**
 * A simple consumer that takes messages one by one and keeps them, until it is given no more. Then it settles the
 * first of them and looks for what that sets free.
 */
public final class Hold {
    private static final Duration AWAIT = Duration.ofSeconds(6);
    private static final Duration INVISIBLE = Duration.ofSeconds(60);

    private Hold() {}

    public static void run(Arguments arguments) throws StepFailed {
        SimpleConsumer consumer = Step.named("start", () -> Clients.of(arguments).simpleConsumer(AWAIT));
        List<MessageView> held = new ArrayList<>();
        List<MessageView> received = receiveOne("held", consumer);
        while (!received.isEmpty()) {
            held.addAll(received);
            report("held", received);
            received = receiveOne("held", consumer);
        }
        if (held.isEmpty()) {
            throw new StepFailed("held", "nothing was received");
        }
        Output.success("empty");
        Step.named("ack", () -> {
            consumer.ack(held.get(0));
            return null;
        });
        Output.success("ack", "id", held.get(0).getMessageId().toString());
        report("freed", receiveOne("freed", consumer));
        Step.named("stop", () -> {
            consumer.close();
            return null;
        });
        Output.success("end");
    }

    private static List<MessageView> receiveOne(String step, SimpleConsumer consumer) throws StepFailed {
        return Step.named(step, () -> consumer.receive(1, INVISIBLE));
    }

    private static void report(String step, List<MessageView> messages) {
        for (MessageView message : messages) {
            Output.success(step, "message", Messages.fields(message));
        }
    }
}
