//! The kinds of sockets that requests and replies travel between.

/// All kinds of sockets that version 2 knows, each at its number.
const NUMBERED: [&str; 9] = ["PAIR", "PUB", "SUB", "REQ", "REP", "DEALER", "ROUTER", "PULL", "PUSH"];

/// What kind of socket a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketType {
    /// Any number of requests or replies, in any order.
    Dealer,
    /// The side that many peers connect to.
    Router,
    /// One request, then one reply.
    Req,
    /// One reply to each request.
    Rep,
}

impl SocketType {
    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dealer => "DEALER",
            Self::Router => "ROUTER",
            Self::Req => "REQ",
            Self::Rep => "REP",
        }
    }

    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        [Self::Dealer, Self::Router, Self::Req, Self::Rep]
            .into_iter()
            .find(|socket| socket.as_str().as_bytes() == name)
    }

    /// Its number on the wire of version 2.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Req => 3,
            Self::Rep => 4,
            Self::Dealer => 5,
            Self::Router => 6,
        }
    }

    pub(super) fn numbered(number: u8) -> Option<Self> {
        [Self::Dealer, Self::Router, Self::Req, Self::Rep]
            .into_iter()
            .find(|socket| socket.number() == number)
    }

    /// The name of any kind, or its number if it has none.
    pub(super) fn name_of(number: u8) -> String {
        NUMBERED.get(usize::from(number)).map_or_else(|| number.to_string(), |name| (*name).to_owned())
    }

    /// Whether ZeroMQ lets the two be connected.
    #[must_use]
    pub const fn may_talk_to(self, other: Self) -> bool {
        use SocketType::{Dealer, Rep, Req, Router};
        matches!(
            (self, other),
            (Dealer | Router, Dealer | Router)
                | (Req, Rep | Router)
                | (Rep, Req | Dealer)
                | (Router, Req)
                | (Dealer, Rep)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::SocketType;
    use super::SocketType::{Dealer, Rep, Req, Router};

    #[test]
    fn names_and_numbers_belong_together() {
        for socket in [Dealer, Router, Req, Rep] {
            assert_eq!(SocketType::numbered(socket.number()), Some(socket));
            assert_eq!(SocketType::name_of(socket.number()), socket.as_str());
        }
        assert_eq!(SocketType::numbered(8), None);
    }

    #[test]
    fn who_may_talk_to_whom_is_the_same_from_both_sides() {
        let all = [Dealer, Router, Req, Rep];
        let drawn = all.map(|row| all.map(|column| if row.may_talk_to(column) { 'x' } else { '.' }));
        //                                 D R Q P
        assert_eq!(drawn.map(String::from_iter), ["xx.x", "xxx.", ".x.x", "x.x."]);
    }
}
