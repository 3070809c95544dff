"""What a user deploys: the inventory, the deployments' server, and starting a run from the shell."""
