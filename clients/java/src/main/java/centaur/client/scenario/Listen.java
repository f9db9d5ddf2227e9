package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Input;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;

/** A push consumer that reports every call of its listener until standard input says {@code stop}. */
public final class Listen {
    private Listen() {}

    public static void run(Arguments arguments) throws StepFailed {
        FailingListener listener = new FailingListener(arguments);
        PushConsumer consumer = Step.named("start", () -> Clients.of(arguments).pushConsumer(listener));
        Output.success("ready");
        Input.awaitStop();
        Step.named("stop", () -> {
            consumer.close();
            return null;
        });
        Output.success("end");
    }
}
