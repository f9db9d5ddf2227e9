package centaur.client;

/** What one step does; the client may throw anything, also checked exceptions that it does not declare. */
@FunctionalInterface
public interface Step<T> {
    T take() throws Exception;

    /** Takes a step and gives every error the name of the step. */
    static <T> T named(String name, Step<T> step) throws StepFailed {
        try {
            return step.take();
        } catch (StepFailed failed) {
            throw failed;
        } catch (Exception | LinkageError error) {
            throw new StepFailed(name, error);
        }
    }
}
