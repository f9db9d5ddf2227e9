package centaur.client;

import centaur.client.scenario.Basic;
import centaur.client.scenario.Hold;
import centaur.client.scenario.Listen;
import centaur.client.scenario.ListenLite;
import centaur.client.scenario.Recall;
import centaur.client.scenario.Retry;
import centaur.client.scenario.Survive;
import centaur.client.scenario.Transactions;
import centaur.client.scenario.Transfer;
import centaur.client.scenario.Unknown;

/** Drives the official Java client: {@code Program <endpoint> <scenario> [key=value ...]}. */
public final class Program {
    private Program() {}

    public static void main(String[] words) {
        try {
            run(Arguments.parse(words));
        } catch (StepFailed failed) {
            Output.failure(failed.step(), failed.getCause());
            System.exit(1);
        } catch (IllegalArgumentException wrong) {
            System.err.println(wrong.getMessage());
            System.exit(2);
        }
        // Threads of the client that are still ending must not keep the process.
        System.exit(0);
    }

    private static void run(Arguments arguments) throws StepFailed {
        switch (arguments.scenario()) {
            case "basic" -> Basic.run(arguments);
            case "unknown" -> Unknown.run(arguments);
            case "send" -> Transfer.send(arguments);
            case "read" -> Transfer.read(arguments);
            case "listen" -> Listen.run(arguments);
            case "listen-lite" -> ListenLite.run(arguments);
            case "hold" -> Hold.run(arguments);
            case "retry" -> Retry.run(arguments);
            case "recall" -> Recall.run(arguments);
            case "transaction" -> Transactions.run(arguments);
            case "survive" -> Survive.run(arguments);
            default -> throw new IllegalArgumentException("there is no scenario named " + arguments.scenario());
        }
    }
}
