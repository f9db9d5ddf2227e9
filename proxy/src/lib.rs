//! The stateless front of the cluster: the public contract for every official client.
