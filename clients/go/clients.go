package main

import (
	"context"
	"time"

	client "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

// chooseTLS must run before any client exists: the switch is a variable of the package.
func chooseTLS(args *arguments) {
	client.EnableSsl = args.text("tls", "off") == "on"
}

func configuration(args *arguments) *client.Config {
	return &client.Config{
		Endpoint:      args.endpoint,
		ConsumerGroup: args.group(),
		Credentials:   &credentials.SessionCredentials{},
	}
}

// startProducer names the topic: a producer of this client that knows no topic never finishes its start.
func startProducer(args *arguments) (client.Producer, error) {
	return startChecked(args, func(*client.MessageView) client.TransactionResolution { return client.COMMIT })
}

// verdict says what became of the transaction of a message.
type verdict func(*client.MessageView) client.TransactionResolution

// startChecked starts a producer that answers the server's questions about its transactions with check.
func startChecked(args *arguments, check verdict) (client.Producer, error) {
	producer, err := client.NewProducer(configuration(args),
		client.WithTopics(args.topic()), client.WithTransactionChecker(&client.TransactionChecker{Check: check}))
	if err != nil {
		return nil, err
	}
	return producer, producer.Start()
}

func startSimpleConsumer(args *arguments, await time.Duration) (client.SimpleConsumer, error) {
	consumer, err := client.NewSimpleConsumer(configuration(args),
		client.WithSimpleAwaitDuration(await),
		client.WithSimpleSubscriptionExpressions(everything(args)))
	if err != nil {
		return nil, err
	}
	return consumer, consumer.Start()
}

// listener is called by a push consumer for each message.
type listener func(*client.MessageView) client.ConsumerResult

func startPushConsumer(args *arguments, take listener) (client.PushConsumer, error) {
	consumer, err := client.NewPushConsumer(configuration(args),
		client.WithPushSubscriptionExpressions(everything(args)),
		client.WithPushMessageListener(&client.FuncMessageListener{Consume: take}))
	if err != nil {
		return nil, err
	}
	return consumer, consumer.Start()
}

// startLiteConsumer starts a push consumer of lite topics, of which none is subscribed to yet.
func startLiteConsumer(args *arguments, take listener) (client.LitePushConsumer, error) {
	consumer, err := client.NewLitePushConsumer(configuration(args),
		client.NewLitePushConsumerConfig(args.topic(), longLease),
		client.WithPushMessageListener(&client.FuncMessageListener{Consume: take}))
	if err != nil {
		return nil, err
	}
	return consumer, consumer.Start()
}

func everything(args *arguments) map[string]*client.FilterExpression {
	return map[string]*client.FilterExpression{args.topic(): client.SUB_ALL}
}

// sendOne sends a message and returns the id the server acknowledged.
func sendOne(producer client.Producer, message *client.Message) (string, error) {
	receipts, err := producer.Send(context.Background(), message)
	if err != nil {
		return "", err
	}
	return receipts[0].MessageID, nil
}

// receive turns the error with which this client reports an empty queue into an empty result.
func receive(consumer client.SimpleConsumer, count int32, invisible time.Duration) ([]*client.MessageView, error) {
	messages, err := consumer.Receive(context.Background(), count, invisible)
	if status, ok := client.AsErrRpcStatus(err); ok && status.GetCode() == int32(v2.Code_MESSAGE_NOT_FOUND) {
		return nil, nil
	}
	return messages, err
}
