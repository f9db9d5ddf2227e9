package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Clients;
import centaur.client.Input;
import centaur.client.Messages;
import centaur.client.Output;
import centaur.client.Step;
import centaur.client.StepFailed;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionChecker;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/**
 * Transactions with the ends in {@code ends}, in turn. Those named {@code open-…} are left to the server, which asks
 * until standard input says {@code stop}; {@code open-unknown} is settled by the second question only.
 */
public final class Transactions {
    private static final String ENDS = "commit,rollback,open-commit,open-rollback,open-unknown";
    /** What the server is told, question by question. */
    private static final Map<String, List<TransactionResolution>> ANSWERS = Map.of(
        "open-commit", List.of(TransactionResolution.COMMIT),
        "open-rollback", List.of(TransactionResolution.ROLLBACK),
        "open-unknown", List.of(TransactionResolution.UNKNOWN, TransactionResolution.COMMIT));

    private Transactions() {}

    public static void run(Arguments arguments) throws StepFailed {
        String topic = arguments.text("topic");
        List<String> ends = arguments.words("ends", ENDS);
        Producer producer = Step.named("start", () -> Clients.of(arguments).checkedProducer(checker(ends), topic));
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
            case "open-commit", "open-rollback", "open-unknown" -> { }
            default -> throw new IllegalArgumentException("a transaction cannot end with " + end);
        }
    }

    /** Answers each question with the next word, and from then on with the last. */
    private static TransactionChecker checker(List<String> ends) {
        Map<String, AtomicInteger> asked = new ConcurrentHashMap<>();
        return message -> {
            Output.success("checked", "message", Messages.fields(message));
            String end = ends.get(Integer.parseInt(message.getProperties().get("number")));
            List<TransactionResolution> words = ANSWERS.getOrDefault(end, List.of(TransactionResolution.UNKNOWN));
            int before = asked.computeIfAbsent(end, any -> new AtomicInteger()).getAndIncrement();
            return words.get(Math.min(before, words.size() - 1));
        };
    }
}
