package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Input;
import centaur.client.Messages;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import centaur.client.Stopwatch;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Sends and consumes until standard input says {@code stop}, whatever becomes of the server meanwhile. */
public final class Survive {
    private static final long PAUSE_MS = 20;

    private Survive() {}

    public static void run(Arguments arguments) throws StepFailed {
        Clients clients = Clients.of(arguments);
        Set<String> taken = ConcurrentHashMap.newKeySet();
        Producer producer = Step.named("start", () -> clients.producer(arguments.text("topic")));
        PushConsumer consumer = Step.named("consumer", () -> clients.pushConsumer(message -> take(message, taken)));
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
