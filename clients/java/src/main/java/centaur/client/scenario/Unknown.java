package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Messages;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import centaur.client.Stopwatch;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Sending to a topic that does not exist must fail at once; the text holds the code. */
public final class Unknown {
    private Unknown() {}

    public static void run(Arguments arguments) throws StepFailed {
        Producer producer = Step.named("start", () -> Clients.of(arguments).producer());
        Stopwatch watch = new Stopwatch();
        try {
            producer.send(Messages.numbered(arguments.text("topic"), "java", 0).build());
        } catch (Exception expected) {
            Output.success("unknown", "ms", watch.ms(), "text", Output.describe(expected));
            return;
        }
        throw new StepFailed("unknown", "the message was accepted");
    }
}
