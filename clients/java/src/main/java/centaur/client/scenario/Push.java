package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Messages;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** A push consumer whose listener fails the first attempt and takes the second. */
public final class Push {
    private Push() {}

    public static void run(Arguments arguments) throws StepFailed {
        Clients clients = Clients.of(arguments);
        try (Producer producer = Step.named("start", () -> clients.producer(arguments.text("topic")))) {
            Attempts attempts = new Attempts();
            PushConsumer consumer = Step.named("consumer", () -> clients.pushConsumer(attempts::take));
            String id = Step.named("send", () -> producer
                .send(Messages.numbered(arguments.text("topic"), arguments.text("prefix", "java"), 0))
                .getMessageId()
                .toString());
            Output.success("send", "id", id);
            attempts.await(arguments.seconds("timeout_s", 60).toMillis());
            consumer.close();
        } catch (java.io.IOException error) {
            throw new StepFailed("stop", error);
        }
        Output.success("end");
    }

    /** Fails the first call of the listener, succeeds afterwards, and reports each. */
    private static final class Attempts {
        private final AtomicInteger calls = new AtomicInteger();
        private final CountDownLatch taken = new CountDownLatch(1);

        ConsumeResult take(MessageView message) {
            boolean first = calls.incrementAndGet() == 1;
            Output.success("attempt", "message", Messages.fields(message));
            if (first) {
                return ConsumeResult.FAILURE;
            }
            taken.countDown();
            return ConsumeResult.SUCCESS;
        }

        void await(long timeoutMs) throws StepFailed {
            boolean done = Step.named("attempt", () -> taken.await(timeoutMs, TimeUnit.MILLISECONDS));
            if (!done) {
                throw new StepFailed("attempt", "the listener was called " + calls.get() + " times in " + timeoutMs + " ms");
            }
        }
    }
}
