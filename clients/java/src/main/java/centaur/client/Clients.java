package centaur.client;

import java.time.Duration;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientConfigurationBuilder;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.TransactionChecker;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/** Producers and consumers for one server, started when they are returned. */
public record Clients(ClientServiceProvider provider, ClientConfiguration configuration, Arguments arguments) {
    public static Clients of(Arguments arguments) {
        ClientConfigurationBuilder builder = ClientConfiguration.newBuilder().setEndpoints(arguments.endpoint());
        if (!arguments.tls()) {
            // Younger than the oldest client tested here, which always uses TLS.
            builder.enableSsl(false);
        }
        return new Clients(ClientServiceProvider.loadService(), builder.build(), arguments);
    }

    public Producer producer(String... topics) throws ClientException {
        return checkedProducer(message -> TransactionResolution.COMMIT, topics);
    }

    /** A producer that answers the server's questions about its transactions with {@code checker}. */
    public Producer checkedProducer(TransactionChecker checker, String... topics) throws ClientException {
        return provider.newProducerBuilder()
            .setClientConfiguration(configuration)
            .setTopics(topics)
            .setTransactionChecker(checker)
            .build();
    }

    /** A simple consumer of the topic and the group named on the command line. */
    public SimpleConsumer simpleConsumer(Duration await) throws ClientException {
        return provider.newSimpleConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(arguments.text("group"))
            .setSubscriptionExpressions(Map.of(arguments.text("topic"), FilterExpression.SUB_ALL))
            .setAwaitDuration(await)
            .build();
    }

    /** A push consumer of the topic and the group named on the command line. */
    public PushConsumer pushConsumer(MessageListener listener) throws ClientException {
        return provider.newPushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(arguments.text("group"))
            .setSubscriptionExpressions(Map.of(arguments.text("topic"), FilterExpression.SUB_ALL))
            .setMessageListener(listener)
            .build();
    }
}
