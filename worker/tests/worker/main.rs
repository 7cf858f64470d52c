//! Workers against a ROUTER that plays the broker.

#[cfg(test)]
mod broker;
#[cfg(test)]
mod process;

#[cfg(test)]
mod demo;
#[cfg(test)]
mod each;
#[cfg(test)]
mod framing;
#[cfg(test)]
mod lines;
#[cfg(test)]
mod parts;
#[cfg(test)]
mod reconnecting;
#[cfg(test)]
mod serving;
