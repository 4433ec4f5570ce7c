#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);
impl Mac { pub const BROADCAST: Mac = Mac([255;6]); pub fn is_multicast(&self)->bool{ self.0[0]&1==1 } }
impl std::fmt::Display for Mac { fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { Ok(()) } }
pub mod ethernet { pub const HEADER_LEN: usize=14; pub const ETHERTYPE_IPV4:u16=0x800; pub const ETHERTYPE_IPV6:u16=0x86dd; pub const ETHERTYPE_ARP:u16=0x806; pub const ETHERTYPE_VLAN:u16=0x8100; pub const ETHERTYPE_QINQ:u16=0x88a8; }
pub mod arp { use super::Mac; use std::net::Ipv4Addr; pub const REQUEST:u16=1; pub const REPLY:u16=2;
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub struct Repr { pub operation:u16, pub sender_mac:Mac, pub sender_ip:Ipv4Addr, pub target_mac:Mac, pub target_ip:Ipv4Addr }
impl Repr { pub fn parse(_:&[u8])->Option<Repr>{None} } }
pub mod tcp { #[derive(Clone, Copy, Debug, PartialEq, Eq)] pub struct Flags(pub u8); impl Flags { pub fn syn(self)->bool{self.0&2!=0} pub fn fin(self)->bool{self.0&1!=0} pub fn rst(self)->bool{self.0&4!=0} pub fn ack(self)->bool{self.0&16!=0} pub fn opens(self)->bool{self.0&0x17==2} } }
pub mod icmp { pub const DESTINATION_UNREACHABLE:u8=3; pub const TIME_EXCEEDED:u8=11; pub const PORT_UNREACHABLE:u8=3; pub const FRAGMENTATION_NEEDED:u8=4; pub struct Icmp<T>(T); impl<T:AsRef<[u8]>> Icmp<T> { pub fn new_checked(t:T)->Result<Self,()>{Ok(Icmp(t))} pub fn is_error(&self)->bool{false} pub fn is_echo_request(&self)->bool{true} } }
pub mod checksum { #[derive(Clone, Copy, Debug, PartialEq, Eq)] pub struct Delta(u16); impl Delta { pub const ZERO:Delta=Delta(0); pub fn replace_u16(self,_:u16,_:u16)->Self{self} pub fn replace_u32(self,_:u32,_:u32)->Self{self} pub fn inverse(self)->Self{self} pub fn apply(self,c:u16)->u16{c} pub fn apply_udp(self,c:u16)->u16{c} } pub fn sum(_:&[u8])->u16{0xffff} }
pub mod build { use super::Mac; use std::net::Ipv4Addr; 
pub fn arp_request(_:&mut [u8],_:Mac,_:Mac,_:Ipv4Addr,_:Ipv4Addr)->Option<usize>{None} pub fn gratuitous_arp(_:&mut [u8],_:Mac,_:Ipv4Addr)->Option<usize>{None}
pub fn arp_reply_in_place(_:&mut [u8],_:Mac)->Option<()>{None} pub fn echo_reply_in_place(_:&mut [u8],_:Mac)->Option<()>{None}
pub fn tcp_reset(_:&mut [u8],_:&[u8],_:Mac)->Option<usize>{None}
pub fn icmp_error(_:&mut [u8],_:&[u8],_:Mac,_:Ipv4Addr,_:u8,_:u8,_:u32)->Option<usize>{None} }
