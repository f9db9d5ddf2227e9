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

/** Producers and consumers for one server, started when they are returned. */
public record Clients(ClientServiceProvider provider, ClientConfiguration configuration, Arguments arguments) {
    public static Clients of(Arguments arguments) {
        ClientConfigurationBuilder builder = ClientConfiguration.newBuilder().setEndpoints(arguments.endpoint());
        chooseTls(builder, arguments.tls());
        return new Clients(ClientServiceProvider.loadService(), builder.build(), arguments);
    }

    /** The switch is younger than the oldest client tested here, which always uses TLS. */
    private static void chooseTls(ClientConfigurationBuilder builder, boolean tls) {
        try {
            ClientConfigurationBuilder.class.getMethod("enableSsl", boolean.class).invoke(builder, tls);
        } catch (NoSuchMethodException tooOld) {
            if (!tls) {
                throw new IllegalArgumentException("this client can only use TLS: add tls=on", tooOld);
            }
        } catch (ReflectiveOperationException broken) {
            throw new IllegalStateException("enableSsl cannot be called", broken);
        }
    }

    public Producer producer(String... topics) throws ClientException {
        return provider.newProducerBuilder().setClientConfiguration(configuration).setTopics(topics).build();
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
