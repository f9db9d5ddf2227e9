package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Messages;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import centaur.client.Stopwatch;
import java.time.Duration;
import java.util.List;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** One message there and back through a producer and a simple consumer, every call once. */
public final class Basic {
    private static final Duration INVISIBLE = Duration.ofSeconds(10);
    private static final Duration EXTENDED = Duration.ofSeconds(60);

    private Basic() {}

    public static void run(Arguments arguments) throws StepFailed {
        Clients clients = Clients.of(arguments);
        Producer producer = start(clients, arguments.text("topic"));
        send(producer, arguments);
        Duration await = arguments.seconds("await_s", 12);
        SimpleConsumer consumer = Step.named("consumer", () -> clients.simpleConsumer(await));
        MessageView message = receive(consumer);
        Step.named("extend", () -> {
            consumer.changeInvisibleDuration(message, EXTENDED);
            return null;
        });
        Output.success("extend");
        receiveNothing(consumer);
        Step.named("ack", () -> {
            consumer.ack(message);
            return null;
        });
        Output.success("ack");
        stop(producer, consumer);
    }

    /** The first producer loads the classes of the client; the time of the second is the client's own. */
    private static Producer start(Clients clients, String topic) throws StepFailed {
        Step.named("start", () -> {
            clients.producer(topic).close();
            return null;
        });
        Stopwatch watch = new Stopwatch();
        Producer producer = Step.named("start", () -> clients.producer(topic));
        Output.success("start", "ms", watch.ms());
        return producer;
    }

    private static void send(Producer producer, Arguments arguments) throws StepFailed {
        Stopwatch watch = new Stopwatch();
        String id = Step.named("send", () -> producer
            .send(Messages.numbered(arguments.text("topic"), arguments.prefix(), 0).build())
            .getMessageId()
            .toString());
        Output.success("send", "id", id, "ms", watch.ms());
    }

    private static MessageView receive(SimpleConsumer consumer) throws StepFailed {
        List<MessageView> messages = Step.named("receive", () -> consumer.receive(16, INVISIBLE));
        if (messages.size() != 1) {
            throw new StepFailed("receive", "expected one message, got " + messages.size());
        }
        Output.success("receive", "message", Messages.fields(messages.get(0)));
        return messages.get(0);
    }

    private static void receiveNothing(SimpleConsumer consumer) throws StepFailed {
        Stopwatch watch = new Stopwatch();
        List<MessageView> messages = Step.named("empty", () -> consumer.receive(16, INVISIBLE));
        Output.success("empty", "ms", watch.ms(), "count", messages.size());
    }

    private static void stop(Producer producer, SimpleConsumer consumer) throws StepFailed {
        Stopwatch watch = new Stopwatch();
        Step.named("stop", () -> {
            consumer.close();
            producer.close();
            return null;
        });
        Output.success("stop", "ms", watch.ms());
    }
}
