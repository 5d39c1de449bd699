"""What stands between the network and the page: who asks, what that visitor may do, how much, and how the server is."""
