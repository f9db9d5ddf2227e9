package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Input;
import centaur.client.Messages;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import java.util.List;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.Transaction;

/**
 * Transactions with the ends in {@code ends}, in turn: commit, rollback, open. An open one is left to the server,
 * which asks until standard input says {@code stop}.
 */
public final class Transactions {
    private Transactions() {}

    public static void run(Arguments arguments) throws StepFailed {
        String topic = arguments.text("topic");
        Producer producer = Step.named("start", () -> Clients.of(arguments).checkedProducer(Transactions::report, topic));
        List<String> ends = arguments.words("ends", "commit,rollback,open");
        for (int number = 0; number < ends.size(); number++) {
            int current = number;
            Step.named("sent", () -> {
                send(producer, arguments, current, ends.get(current));
                return null;
            });
        }
        Input.awaitStop();
        Step.named("stop", () -> {
            producer.close();
            return null;
        });
        Output.success("end");
    }

    private static void send(Producer producer, Arguments arguments, int number, String end) throws ClientException {
        Transaction transaction = producer.beginTransaction();
        String id = producer
            .send(Messages.numbered(arguments.text("topic"), arguments.prefix(), number).build(), transaction)
            .getMessageId()
            .toString();
        Output.success("sent", "number", number, "id", id, "end", end);
        switch (end) {
            case "commit" -> transaction.commit();
            case "rollback" -> transaction.rollback();
            case "open" -> { }
            default -> throw new IllegalArgumentException("a transaction cannot end with " + end);
        }
    }

    private static void report(MessageView message) {
        Output.success("checked", "message", Messages.fields(message));
    }
}
