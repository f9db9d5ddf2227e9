package centaur.client;

/** One step of a scenario ended with an error of the client, or with a result that nobody may expect. */
public final class StepFailed extends Exception {
    private static final long serialVersionUID = 1L;

    private final String step;

    public StepFailed(String step, Throwable cause) {
        super(step, cause);
        this.step = step;
    }

    public StepFailed(String step, String why) {
        this(step, new IllegalStateException(why));
    }

    public String step() {
        return step;
    }
}
