package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Input;
import centaur.client.Messages;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import centaur.client.Stopwatch;
import java.io.Closeable;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/**
 * Sends and consumes until standard input says {@code stop}, whatever becomes of the server meanwhile. It consumes with
 * a push consumer, or with {@code consume=simple} with a simple one.
 */
public final class Survive {
    private static final long PAUSE_MS = 20;
    private static final Duration AWAIT = Duration.ofSeconds(6);
    private static final Duration INVISIBLE = Duration.ofSeconds(15);

    private Survive() {}

    public static void run(Arguments arguments) throws StepFailed {
        Clients clients = Clients.of(arguments);
        Set<String> taken = ConcurrentHashMap.newKeySet();
        Producer producer = Step.named("start", () -> clients.producer(arguments.text("topic")));
        Closeable consumer = Step.named("consumer", () -> consumer(clients, arguments, taken));
        Output.success("ready");
        Set<String> sent = sendUntilStopped(producer, arguments);
        awaitAll(sent, taken, arguments.seconds("drain_s", 60));
        Output.success("end", "sent", sent.size(), "acked", taken.size());
        Step.named("stop", () -> {
            producer.close();
            consumer.close();
            return null;
        });
    }

    private static Closeable consumer(Clients clients, Arguments arguments, Set<String> taken) throws ClientException {
        if (arguments.text("consume", "push").equals("push")) {
            return clients.pushConsumer(message -> take(message, taken));
        }
        SimpleConsumer consumer = clients.simpleConsumer(AWAIT);
        Thread receiver = new Thread(() -> receive(consumer, taken), "receiver");
        receiver.setDaemon(true);
        receiver.start();
        return consumer;
    }

    private static void receive(SimpleConsumer consumer, Set<String> taken) {
        while (true) {
            try {
                for (MessageView message : consumer.receive(16, INVISIBLE)) {
                    // Whether an ack that failed was heard is unknown: what was received counts.
                    take(message, taken);
                    consumer.ack(message);
                }
            } catch (Exception error) {
                Output.success("retry", "error", Output.describe(error));
                LockSupport.parkNanos(PAUSE_MS * 1_000_000);
            }
        }
    }

    private static ConsumeResult take(MessageView message, Set<String> taken) {
        String id = message.getMessageId().toString();
        Output.success("acked", "id", id);
        taken.add(id);
        return ConsumeResult.SUCCESS;
    }

    private static Set<String> sendUntilStopped(Producer producer, Arguments arguments) throws StepFailed {
        AtomicBoolean stopped = new AtomicBoolean();
        Thread reader = new Thread(() -> awaitStop(stopped), "standard-input");
        reader.setDaemon(true);
        reader.start();
        Set<String> sent = ConcurrentHashMap.newKeySet();
        for (int number = 0; !stopped.get(); number++) {
            sendOne(producer, arguments, number, sent);
            pause();
        }
        return sent;
    }

    private static void sendOne(Producer producer, Arguments arguments, int number, Set<String> sent) {
        try {
            String id = producer
                .send(Messages.numbered(arguments.text("topic"), arguments.prefix(), number).build())
                .getMessageId()
                .toString();
            sent.add(id);
            Output.success("sent", "id", id);
        } catch (Exception error) {
            Output.success("retry", "error", Output.describe(error));
        }
    }

    private static void awaitStop(AtomicBoolean stopped) {
        try {
            Input.awaitStop();
        } catch (StepFailed closed) {
            Output.success("retry", "error", Output.describe(closed));
        }
        stopped.set(true);
    }

    private static void awaitAll(Set<String> sent, Set<String> taken, Duration limit) throws StepFailed {
        Stopwatch watch = new Stopwatch();
        while (!taken.containsAll(sent) && !watch.reached(limit)) {
            pause();
        }
    }

    private static void pause() throws StepFailed {
        Step.named("pause", () -> {
            Thread.sleep(PAUSE_MS);
            return null;
        });
    }
}
