# The file of that name in nixpkgs makes a host of EC2. There is nothing of it to stand in for.
{ }
