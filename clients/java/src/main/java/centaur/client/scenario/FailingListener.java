package centaur.client.scenario;

import centaur.client.Arguments;
import centaur.client.Messages;
import centaur.client.Output;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.message.MessageView;

/** Fails message {@code fail} the first {@code times} times, takes everything else, and reports each call. */
final class FailingListener implements MessageListener {
    private final String fail;
    private final AtomicInteger left;

    FailingListener(Arguments arguments) {
        fail = arguments.text("fail", "none");
        left = new AtomicInteger(arguments.number("times", 1));
    }

    @Override
    public ConsumeResult consume(MessageView message) {
        Output.success("attempt", "message", Messages.fields(message));
        boolean fails = fail.equals(message.getProperties().get("number")) && left.getAndDecrement() > 0;
        return fails ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
    }
}
