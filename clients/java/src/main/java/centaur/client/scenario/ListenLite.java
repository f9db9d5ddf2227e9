package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Input;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;

/**
 * A push consumer of the lite topics in {@code subscribe} that reports every call of its listener until standard
 * input says {@code stop}; a line {@code unsubscribe <lite topic>} ends one subscription, and {@code list} asks for
 * those that the client knows of.
 */
public final class ListenLite {
    private ListenLite() {}

    public static void run(Arguments arguments) throws StepFailed {
        LitePushConsumer consumer = Step.named("start", () -> build(arguments));
        for (String liteTopic : arguments.words("subscribe", "")) {
            Step.named("subscribe", () -> {
                consumer.subscribeLite(liteTopic);
                return null;
            });
        }
        Output.success("ready");
        Step.named("command", () -> {
            for (String[] words = Input.command(); words != null; words = Input.command()) {
                obey(consumer, words);
            }
            return null;
        });
        Step.named("stop", () -> {
            consumer.close();
            return null;
        });
        Output.success("end");
    }

    private static void obey(LitePushConsumer consumer, String[] words) throws ClientException {
        switch (words[0]) {
            case "unsubscribe" -> {
                consumer.unsubscribeLite(words[1]);
                Output.success("unsubscribed", "lite_topic", words[1]);
            }
            case "list" -> Output.success("listed", "lite_topics", consumer.getLiteTopicSet());
            default -> throw new IllegalArgumentException("not a command: " + words[0]);
        }
    }

    /** Not among the clients that every version has. */
    private static LitePushConsumer build(Arguments arguments) throws ClientException {
        Clients clients = Clients.of(arguments);
        return clients.provider().newLitePushConsumerBuilder()
            .setClientConfiguration(clients.configuration())
            .setConsumerGroup(arguments.text("group"))
            .bindTopic(arguments.text("topic"))
            .setMessageListener(new FailingListener(arguments))
            .build();
    }
}
