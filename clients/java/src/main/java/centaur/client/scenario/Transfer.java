package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Kinds;
import centaur.client.Messages;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import centaur.client.Stopwatch;
import java.time.Duration;
import java.util.HashSet;
import java.util.Set;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** The two halves of an exchange between languages: send numbered messages, read messages of anybody. */
public final class Transfer {
    private static final Duration AWAIT = Duration.ofSeconds(6);
    private static final Duration INVISIBLE = Duration.ofSeconds(30);

    private Transfer() {}

    public static void send(Arguments arguments) throws StepFailed {
        Producer producer = Step.named("start", () -> Clients.of(arguments).producer(arguments.text("topic")));
        int first = arguments.number("first", 0);
        for (int number = first; number < first + arguments.number("count", 1); number++) {
            int current = number;
            Output.success("sent", Step.named("sent", () -> Kinds.sendInTurn(producer, arguments, current)));
        }
        Step.named("stop", () -> {
            producer.close();
            return null;
        });
        Output.success("end");
    }

    public static void read(Arguments arguments) throws StepFailed {
        SimpleConsumer consumer = Step.named("start", () -> Clients.of(arguments).simpleConsumer(AWAIT));
        Output.success("ready");
        Duration timeout = arguments.seconds("timeout_s", 60);
        Stopwatch watch = new Stopwatch();
        Set<String> ids = new HashSet<>();
        while (ids.size() < arguments.number("expect", 1) && !watch.reached(timeout)) {
            for (MessageView message : Step.named("read", () -> consumer.receive(16, INVISIBLE))) {
                Step.named("ack", () -> {
                    consumer.ack(message);
                    return null;
                });
                ids.add(message.getMessageId().toString());
                Output.success("read", "message", Messages.fields(message));
            }
        }
        Step.named("stop", () -> {
            consumer.close();
            return null;
        });
        Output.success("end", "count", ids.size());
    }
}
