// parallel/side_channel.cpp: placeholder
