//! The whole against real peers: one file a peer, one a story.
