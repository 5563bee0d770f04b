//! The simulated network as a ground for scenes: without faults, and nobody acts between two steps.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::{Act, Acted, Ground, Place};
use crate::net::sim::{Faults, Random, Sent, SimListener, SimNet, SimNetwork, SimPeer, SimStream};
use crate::peer::Peer;

pub(super) struct Simulated {
    network: SimNetwork,
    peers: Cell<u16>,
}

impl Ground for Simulated {
    const NAME: &'static str = "the simulation";
    type Net = SimNet;
    type Peer = SimPeer;

    fn new() -> (Self, SimNet, SimListener) {
        let network = SimNetwork::new(Random::new(0), Faults::none(), 1);
        network.limit(usize::MAX, 16 << 10, 128);
        let (net, mut listeners) = network.net(0, 1, Rc::new(|| {}));
        let listener = listeners.remove(0);
        let peers = Cell::new(0);
        (Self { network, peers }, net, listener)
    }

    fn connect(&self) -> SimPeer {
        self.peers.set(self.peers.get() + 1);
        let address = SocketAddr::from(([127, 0, 0, 1], self.peers.get()));
        let peer = self.network.connect(0, Peer::Tcp(address));
        peer.expect("there is room in the backlog")
    }

    fn act(&self, peer: &mut SimPeer, act: Act<'_>) -> Acted {
        let sent = match act {
            Act::Send(bytes) => peer.send(bytes),
            Act::Urge(bytes) => peer.send_urgent(bytes),
            Act::Finish => {
                peer.finish();
                Sent::Took(0)
            }
            Act::Reset => {
                peer.reset();
                Sent::Took(0)
            }
        };
        match sent {
            Sent::Took(n) => Acted::Took(n),
            Sent::Gone => Acted::Gone,
        }
    }

    fn sees(&self, peer: &SimPeer) -> &'static str {
        if peer.sees_reset() {
            "RST"
        } else if peer.sees_fin() {
            "FIN"
        } else {
            "nothing"
        }
    }

    fn fill_out(&self, _: &SimStream) {}

    fn has_come(&self, _: Place<'_, Self>) -> bool {
        true
    }

    fn until(&self, mut done: impl FnMut() -> bool) -> bool {
        (0..10_000).any(|_| done())
    }

    fn await_room(&self, _: &SimPeer) {}

    fn pass(&self) {
        self.network.pass(Duration::from_millis(1));
    }
}
