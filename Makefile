# The front desk: every command has its line here, its logic is in ladder/. `make` alone prints the help.
.DEFAULT_GOAL := help
LADDER := @ladder/bootstrap && .venv/bin/python -m ladder
TEST := @ladder/bootstrap tests/requirements.txt && .venv/bin/python -m pytest

##@ Climb
up: ## STAGE=n        bring the site up on rung n: 0 simple, 1 distributed
	$(LADDER) up
down: ##                take it down; every message is kept
	$(LADDER) down
wipe: ##                take it down and remove the data with it
	$(LADDER) wipe
diff: ## STAGE=n        what rung n adds to the one before
	$(LADDER) diff
doctor: ##                is this machine ready? Checks, changes nothing
	$(LADDER) doctor

##@ Look
open: ##                the site in a browser, with the name mapped
	$(LADDER) open
hosts: ##                the line for your machine's hosts file
	$(LADDER) hosts
ps: ##                servers, zones, roles, health
	$(LADDER) ps
logs: ## [NODE=name]    what the servers say; FOLLOW=1 goes on
	$(LADDER) logs $(if $(FOLLOW),--follow)
lb: ##                the balancer: servers, state, sessions, share of requests
	$(LADDER) lb
replication: ##                databases: who is what, GTIDs, lag
	$(LADDER) replication

##@ Break and heal (NODE: a container, server1, server2, primary, replica)
kill: ## NODE=name      SIGKILL, as in a power cut
	$(LADDER) kill
start: ## NODE=name      start what was killed
	$(LADDER) start
pause: ## NODE=name      freeze: it accepts connections and answers nothing
	$(LADDER) pause
unpause: ## NODE=name      thaw
	$(LADDER) unpause
partition: ## NODE=name      cut it off from all others, by packet filter
	$(LADDER) partition
heal: ## [NODE=name]    undo every fault
	$(LADDER) heal

##@ Prove
test: ##                everything, in a stack of its own; ARGS=… goes to pytest
	$(TEST) $(ARGS)
bench: ##                what each hop costs: pages a second, as ratios
	$(LADDER) bench
lock: ##                lock the Python packages again, with hashes
	$(LADDER) lock

help:
	@awk 'BEGIN {FS = ": ## *"} /^##@ / {print "\n" substr($$0, 5)} /^[a-z]+: ##/ {printf "  make %-12s %s\n", $$1, substr($$0, index($$0, "## ") + 3)}' Makefile

.PHONY: up down wipe diff doctor open hosts ps logs lb replication kill start pause unpause partition heal \
	test bench lock help
